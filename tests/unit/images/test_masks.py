from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from graycat.images.decoding import CheckedImage, decode
from graycat.images.masks import fit_mask
from graycat.images.webui_requests import check_generation
from graycat.settings import Settings
from tests.support.webuis import encoded


def checked(mode: str, size: tuple[int, int], format: str = "PNG", **options: Any) -> CheckedImage:
    file = io.BytesIO()
    Image.new(mode, size).save(file, format, **options)
    return CheckedImage(file.getvalue(), format.lower(), *size)


def half_white(size: tuple[int, int]) -> CheckedImage:
    """Return a mask whose left half is painted."""
    picture = Image.new("L", size)
    picture.paste(255, (0, 0, size[0] // 2, size[1]))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return CheckedImage(file.getvalue(), "png", *size)


IMAGE = checked("RGB", (64, 32))


def test_a_mask_that_fits_stays_as_it_is() -> None:
    mask = checked("L", (64, 32))
    assert fit_mask(mask, IMAGE) is mask


def test_a_mask_of_another_size_is_scaled_with_its_places() -> None:
    scaled = fit_mask(half_white((16, 16)), IMAGE)
    assert (scaled.width, scaled.height, scaled.format) == (64, 32, "png")
    with Image.open(io.BytesIO(scaled.data)) as picture:
        assert picture.size == (64, 32)
        assert (picture.getpixel((8, 16)), picture.getpixel((56, 16))) == (255, 0)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK"])
def test_masks_of_all_modes_are_scaled(mode: str) -> None:
    mask = checked(mode, (8, 8), "JPEG" if mode == "CMYK" else "PNG")
    assert fit_mask(mask, IMAGE).width == 64


def test_numbers_without_a_range_are_left_to_the_engine() -> None:
    mask = checked("I;16", (8, 8))
    assert fit_mask(mask, IMAGE) is mask


def test_a_mask_may_fit_a_photo_as_its_camera_turns_it() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = checked("RGB", (64, 32), "JPEG", exif=exif)
    for size in ((64, 32), (32, 64)):
        mask = checked("L", size)
        assert fit_mask(mask, photo) is mask


def test_an_engine_gets_a_mask_of_the_image_s_size() -> None:
    body = {"init_images": [encoded(IMAGE.data)], "mask": encoded(half_white((16, 16)).data)}
    sent = check_generation(body, Settings())
    mask = decode(sent["mask"], Settings())
    assert (mask.width, mask.height) == (64, 32)
