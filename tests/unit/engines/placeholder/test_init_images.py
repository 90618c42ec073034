from __future__ import annotations

from typing import Any

import pytest
from PIL import Image, ImageStat

from graycat.engines.placeholder import imagefiles, init_images
from graycat.engines.placeholder.bodies import IMG2IMG
from graycat.engines.placeholder.init_images import InitImage
from graycat.engines.placeholder.schema import model

SIZE = (32, 16)


def fields(**given: Any) -> dict[str, Any]:
    body: dict[str, Any] = model(IMG2IMG)(given)
    return body


def encoded(colour: str | int, mode: str = "RGB", size: tuple[int, int] = (64, 64)) -> str:
    return imagefiles.encode(Image.new(mode, size, colour), "png", 80)


def test_images_are_brought_to_size() -> None:
    for mode in (0, 1, 2, 3):
        (source,) = init_images.read_init_images(fields(init_images=[encoded("red")], resize_mode=mode), None, SIZE)
        assert (source.image.size, source.image.mode, source.mask) == (SIZE, "RGB", None)
        assert source.image.getpixel((16, 8)) == (255, 0, 0)


def test_stretching_cropping_and_padding_differ() -> None:
    half = Image.new("RGB", (64, 64), "red")
    half.paste("blue", (0, 0, 64, 20))
    stretched, cropped, padded = (init_images.resize(half, SIZE, mode) for mode in (0, 1, 2))
    assert stretched.getpixel((16, 1)) == (0, 0, 255)
    assert cropped.getpixel((16, 8)) == (255, 0, 0)
    assert padded.getpixel((1, 8)) == (0, 0, 0)


def test_transparency_is_put_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert init_images.flatten(clear).getpixel((0, 0)) == (255, 255, 255)
    assert init_images.flatten(Image.new("L", (4, 4), 7)).getpixel((0, 0)) == (7, 7, 7)


@pytest.mark.parametrize("images", [[], ["a", "b"]])
def test_the_number_of_images_must_fit(images: list[str]) -> None:
    with pytest.raises(RuntimeError, match="bad number of images"):
        init_images.read_init_images(fields(init_images=images), None, SIZE)


def test_several_images_set_the_batch_size() -> None:
    body = fields(init_images=[encoded("red"), encoded("blue")], batch_size=5)
    assert len(init_images.read_init_images(body, None, SIZE)) == body["batch_size"] == 2


def mask(**given: Any) -> Image.Image | None:
    grey = Image.linear_gradient("L")
    return init_images.prepare_mask(grey, fields(**given), SIZE)


def test_a_mask_is_rounded_inverted_and_blurred() -> None:
    for given, top, bottom in (
        ({"mask_blur": 0}, 0, 255),
        ({"mask_blur": 0, "inpainting_mask_invert": 1}, 255, 0),
    ):
        made = mask(**given)
        assert made is not None
        assert (made.size, made.getpixel((0, 0)), made.getpixel((0, 15))) == (SIZE, top, bottom)
    sharp, blurred = mask(mask_blur=0), mask()
    assert sharp is not None
    assert blurred is not None
    assert len(blurred.getcolors() or []) > len(sharp.getcolors() or [])


def test_the_transparency_of_a_mask_counts_if_it_has_any() -> None:
    clear = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    assert init_images.prepare_mask(clear, fields(), SIZE) is None
    made = init_images.prepare_mask(clear, fields(inpaint_full_res=False), SIZE)
    assert made is not None
    assert made.getextrema() == (0, 0)


def test_what_is_not_painted_stays() -> None:
    painted = Image.new("RGB", SIZE, "blue")
    image = Image.new("RGB", SIZE, "red")
    assert InitImage(image, Image.new("L", SIZE, 0), 1).blend(painted).tobytes() == image.tobytes()
    veiled = InitImage(image, None, 1).blend(painted.resize((8, 8)))
    red, _, blue = ImageStat.Stat(veiled).mean
    assert veiled.size == (8, 8)
    assert 0 < red < blue
