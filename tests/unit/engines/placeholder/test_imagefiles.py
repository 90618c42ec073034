from __future__ import annotations

import base64
from io import BytesIO

import pytest
from PIL import Image

from graycat.engines.placeholder import imagefiles
from graycat.engines.placeholder.errors import HTTPException, OutOfMemoryError
from graycat.images import infotext

TEXT = "a fox\nSteps: 4, Sampler: Euler, Seed: 1"


@pytest.mark.parametrize("kind", ["png", "PNG", "jpg", "jpeg", "webp"])
@pytest.mark.parametrize("text", [TEXT, "一只狐狸 🦊"])
def test_a_text_is_kept_in_every_format(kind: str, text: str) -> None:
    image = imagefiles.decode(imagefiles.encode(Image.new("RGBA", (8, 8)), kind, 80, text))
    assert infotext.read(image) == (text, {})


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_no_text_is_none(kind: str) -> None:
    image = imagefiles.decode(imagefiles.encode(Image.new("RGB", (8, 8)), kind, 80))
    assert infotext.read(image) == ("", {})


def test_a_comment_of_another_program_is_read() -> None:
    exif, file = Image.Exif(), BytesIO()
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + TEXT.encode()
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=exif.tobytes())
    assert infotext.read(imagefiles.decode(base64.b64encode(file.getvalue()).decode()))[0] == TEXT


def test_the_same_image_is_the_same_bytes() -> None:
    image = Image.linear_gradient("L").convert("RGB")
    assert imagefiles.encode(image, "png", 80, TEXT) == imagefiles.encode(image.copy(), "png", 80, TEXT)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(HTTPException) as caught:
        imagefiles.encode(Image.new("RGB", (8, 8)), "avif", 80)
    assert (caught.value.status, caught.value.detail) == (500, "Invalid image format")


@pytest.mark.parametrize("url", ["http://a/b.png", "https://a/b.png"])
def test_an_address_is_refused(url: str) -> None:
    with pytest.raises(HTTPException) as caught:
        imagefiles.decode(url)
    assert caught.value.detail == "Request to local resource not allowed"


@pytest.mark.parametrize("text", ["", "%%%", "AAAA", "data:image/png;base64", "é"])
def test_what_is_no_image_is_refused(text: str) -> None:
    with pytest.raises(HTTPException) as caught:
        imagefiles.decode(text)
    assert caught.value.detail == "Invalid encoded image"


def test_a_small_file_with_a_huge_image_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(OutOfMemoryError):
        imagefiles.decode(imagefiles.encode(Image.new("1", (5000, 5000)), "png", 80))


def test_the_bounds_hold_for_an_image_and_for_a_request() -> None:
    imagefiles.check_pixels(4096, 4096, images=4)
    imagefiles.check_pixels(512, 512, images=256)
    for width, height, images in ((4097, 4096, 1), (512, 512, 257), (10**9, 10**9, 10**9)):
        with pytest.raises(OutOfMemoryError):
            imagefiles.check_pixels(width, height, images)
