from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from graycat.engines.comfy import pictures
from graycat.errors import RequestError
from graycat.settings import Settings

SETTINGS = Settings()


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> str:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return base64.b64encode(file.getvalue()).decode()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def halves(left: Any, right: Any, mode: str = "RGB") -> Image.Image:
    image = Image.new(mode, (64, 32), left)
    image.paste(right, (32, 0, 64, 32))
    return image


def test_an_image_is_stretched_or_cropped() -> None:
    text = encoded(halves("red", "blue"))
    stretched = opened(pictures.prepare_image(text, (32, 32), pictures.STRETCH, SETTINGS))
    assert (stretched.getpixel((1, 9)), stretched.getpixel((30, 9))) == ((255, 0, 0), (0, 0, 255))
    assert opened(pictures.prepare_image(text, (32, 32), pictures.CROP, SETTINGS)).size == (32, 32)


def test_a_mask_is_white_where_it_paints() -> None:
    mask = encoded(halves(0, 255, "L"))
    painted = opened(pictures.prepare_mask({"mask": mask, "mask_blur": 0}, (64, 32), SETTINGS))
    assert (painted.getpixel((1, 9)), painted.getpixel((60, 9))) == ((0, 0, 0), (255, 255, 255))
    inverted = pictures.prepare_mask({"mask": mask, "mask_blur": 0, "inpainting_mask_invert": 1}, (64, 32), SETTINGS)
    assert opened(inverted).getpixel((1, 9)) == (255, 255, 255)
    soft = opened(pictures.prepare_mask({"mask": mask}, (64, 32), SETTINGS)).convert("L")
    assert soft.getpixel((30, 9)) not in (0, 255)


@pytest.mark.parametrize("blur", [-1, 1000, "x", True, "nan"])
def test_a_blur_is_bounded(blur: Any) -> None:
    with pytest.raises(RequestError, match="mask_blur"):
        pictures.prepare_mask({"mask": encoded(halves(0, 255, "L")), "mask_blur": blur}, (64, 32), SETTINGS)


def test_texts_leave_a_png_and_its_pixels_stay() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", "the whole workflow")
    info.add_itxt("workflow", "and more", zip=True)
    data = base64.b64decode(encoded(halves("red", "blue"), pnginfo=info))
    bare = opened(pictures.strip_texts(data))
    assert bare.info == {}
    assert bare.tobytes() == opened(data).tobytes()
    named = opened(pictures.add_infotext(data, "a fox é\nSteps: 5"))
    assert named.info["parameters"] == "a fox é\nSteps: 5"
    assert named.info["prompt"] == "the whole workflow"


def test_texts_leave_a_webp() -> None:
    exif = Image.Exif()
    exif[0x010F] = "Prompt: the whole workflow"
    data = base64.b64decode(encoded(halves("red", "blue"), "WEBP", exif=exif))
    assert b"workflow" in data
    bare = pictures.strip_texts(data)
    assert b"workflow" not in bare
    assert opened(bare).size == (64, 32)


def test_what_is_no_image_is_refused() -> None:
    data = base64.b64decode(encoded(halves("red", "blue")))
    for broken in (data[:40], data[:8] + b"\xff" * 20):
        with pytest.raises(ValueError, match="short"):
            pictures.strip_texts(broken)
    with pytest.raises(ValueError, match="no image"):
        pictures.size_of(b"<html>")
    assert pictures.add_infotext(b"other", "x") == pictures.strip_texts(b"other") == b"other"
