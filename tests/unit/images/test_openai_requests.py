from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image

from graycat.errors import RequestError
from graycat.images.errors import ImageTooLarge, InvalidImage
from graycat.images.openai_requests import EDIT_STRENGTH, parse_count, parse_size, to_img2img, to_txt2img
from graycat.settings import Settings
from tests.support.webuis import encoded, picture

SETTINGS = Settings(max_image_bytes=10_000)
PHOTO = encoded(picture("green", "JPEG", (24, 16)))


def cut_out(size: tuple[int, int] = (24, 16), box: tuple[int, int, int, int] = (0, 0, 12, 16)) -> str:
    """Return a PNG that is transparent within ``box``."""
    image = Image.new("RGBA", size, (255, 0, 0, 255))
    image.paste((0, 0, 0, 0), box)
    file = io.BytesIO()
    image.save(file, "PNG")
    return encoded(file.getvalue())


def painted(body: dict[str, Any]) -> Image.Image:
    """Return the mask of a WebUI's body: white is painted."""
    return Image.open(io.BytesIO(base64.b64decode(body["mask"])))


def test_a_generation_is_a_txt2img() -> None:
    body = to_txt2img({"prompt": "a fox", "n": 2, "size": "512x768", "model": "dall-e-3", "user": "me"}, steps=20)
    assert body == {"prompt": "a fox", "batch_size": 2, "width": 512, "height": 768, "steps": 20}


def test_what_is_not_said_is_openai_s_default() -> None:
    body = to_txt2img({"prompt": "a fox"}, steps=20)
    assert (body["batch_size"], body["width"], body["height"]) == (1, 1024, 1024)


@pytest.mark.parametrize("body", [{}, {"prompt": ""}, {"prompt": ["a fox"]}, {"prompt": 5}, {"prompt": None}])
def test_a_prompt_is_required(body: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="'prompt' is required"):
        to_txt2img(body, steps=20)


@pytest.mark.parametrize("stream", [True, "true", 1, 0, [], {}])
def test_a_stream_is_not_offered(stream: object) -> None:
    with pytest.raises(RequestError, match="'stream' is not supported"):
        to_txt2img({"prompt": "a fox", "stream": stream}, steps=20)


@pytest.mark.parametrize("stream", [False, None, "false", "False", ""])
def test_stream_may_be_false(stream: object) -> None:
    assert to_txt2img({"prompt": "a fox", "stream": stream}, steps=20)["prompt"] == "a fox"


@pytest.mark.parametrize("text", [None, "", "auto"])
def test_no_size_is_the_default(text: object) -> None:
    assert parse_size(text, (3, 4)) == (3, 4)


@pytest.mark.parametrize("text", ["1024", "axb", "1x", "x1", "-1x5", "1.5x2", "123456x1", 1024, [1, 2], "1x2x3"])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(RequestError, match="'size' must be WIDTHxHEIGHT"):
        parse_size(text, (3, 4))


@pytest.mark.parametrize(("value", "number"), [(None, 1), (3, 3), ("4", 4), (0, 0)])
def test_a_count_may_come_from_a_form(value: object, number: int) -> None:
    assert parse_count(value) == number


@pytest.mark.parametrize("value", ["many", True, 1.5, [1], {}])
def test_what_is_no_count_is_refused(value: object) -> None:
    with pytest.raises(RequestError, match="'n' must be a number"):
        parse_count(value)


def test_an_edit_is_an_img2img_of_the_image_s_own_size() -> None:
    body = to_img2img({"prompt": "an owl", "n": "2"}, PHOTO, None, SETTINGS, steps=20)
    assert (body["prompt"], body["batch_size"], body["width"], body["height"]) == ("an owl", 2, 24, 16)
    assert (body["init_images"], body["denoising_strength"], body["steps"]) == ([PHOTO], EDIT_STRENGTH, 20)
    assert "mask" not in body


def test_an_edit_may_have_another_size() -> None:
    body = to_img2img({"prompt": "an owl", "size": "512x256"}, PHOTO, None, SETTINGS, steps=20)
    assert (body["width"], body["height"]) == (512, 256)


@pytest.mark.parametrize("mask", [cut_out(), None])
def test_what_is_transparent_is_painted(mask: str | None) -> None:
    body = to_img2img({"prompt": "an owl"}, PHOTO if mask else cut_out(), mask, SETTINGS, steps=20)
    image = painted(body)
    assert (image.getpixel((2, 2)), image.getpixel((20, 2)), image.size) == (255, 0, (24, 16))
    assert (body["denoising_strength"], body["inpaint_full_res"]) == (1.0, False)


def test_a_palette_may_be_transparent_too() -> None:
    file = io.BytesIO()
    Image.new("P", (8, 8), 0).save(file, "PNG", transparency=0)
    assert (
        painted(to_img2img({"prompt": "an owl"}, PHOTO, encoded(file.getvalue()), SETTINGS, steps=20)).getpixel((0, 0))
        == 255
    )


@pytest.mark.parametrize("mask", [PHOTO, cut_out(box=(0, 0, 0, 0))])
def test_a_mask_that_lets_nothing_be_painted_is_refused(mask: str) -> None:
    with pytest.raises(RequestError, match="'mask' must have transparent parts"):
        to_img2img({"prompt": "an owl"}, PHOTO, mask, SETTINGS, steps=20)


@pytest.mark.parametrize(
    ("image", "mask", "error"),
    [("AAAA", None, InvalidImage), (PHOTO, "AAAA", InvalidImage), ("A" * 20_000, None, ImageTooLarge)],
)
def test_files_are_checked_before_anything_else_sees_them(image: str, mask: str | None, error: type) -> None:
    with pytest.raises(error):
        to_img2img({"prompt": "an owl"}, image, mask, SETTINGS, steps=20)
