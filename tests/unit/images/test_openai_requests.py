from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image

from graycat.errors import RequestError, UnsupportedParameter
from graycat.images.errors import ImageTooLarge, InvalidImage, TooMuchWork
from graycat.images.openai_requests import EDIT_STRENGTH, STEPS, parse, parse_size, to_img2img
from graycat.images.output import OutputFormat
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
    fields = {"prompt": "a fox", "n": 2, "size": "512x768", "model": "dall-e-3", "user": "me", "background": "auto"}
    asked = parse(fields, SETTINGS)
    assert asked.body == {"prompt": "a fox", "batch_size": 2, "width": 512, "height": 768, "steps": 20}
    assert (asked.response_format, asked.output, asked.stream, asked.partial_images) == ("b64_json", None, False, 0)


def test_what_is_not_said_is_openai_s_default() -> None:
    body = parse({"prompt": "a fox", "n": None, "size": "", "quality": None}, SETTINGS).body
    assert (body["batch_size"], body["width"], body["height"]) == (1, 1024, 1024)


def test_each_field_that_can_be_done_is_done() -> None:
    fields = {
        "prompt": "a fox",
        "seed": "7",
        "steps": 3,
        "negative_prompt": "a hen",
        "model": "dreams",
        "output_format": "webp",
        "output_compression": "60",
        "stream": "true",
        "partial_images": "2",
    }
    asked = parse(fields, SETTINGS)
    assert (asked.body["seed"], asked.body["steps"], asked.body["negative_prompt"]) == (7, 3, "a hen")
    assert asked.body["override_settings"] == {"sd_model_checkpoint": "dreams"}
    assert (asked.output, asked.stream, asked.partial_images) == (OutputFormat("webp", 60), True, 2)


def test_a_model_may_be_named_by_an_alias() -> None:
    aliases = Settings(model_aliases="dall-e-3=dreams")
    body = parse({"prompt": "a fox", "model": "dall-e-3"}, aliases).body
    assert body["override_settings"] == {"sd_model_checkpoint": "dreams"}


@pytest.mark.parametrize(("quality", "steps"), STEPS.items())
def test_quality_chooses_the_steps(quality: str, steps: int) -> None:
    assert parse({"prompt": "a fox", "quality": quality}, SETTINGS).body["steps"] == steps
    assert parse({"prompt": "a fox", "quality": quality, "steps": 7}, SETTINGS).body["steps"] == 7
    assert parse({"prompt": "a fox", "quality": quality}, Settings(max_steps=5)).body["steps"] == 5


@pytest.mark.parametrize("model", ["dall-e-2", "gpt-image-1", "gpt-image-2.5-flare", "chatgpt-image-latest", "", None])
def test_openai_s_own_models_are_the_engine_s_current_one(model: object) -> None:
    assert "override_settings" not in parse({"prompt": "a fox", "model": model}, SETTINGS).body


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("background", {"background": "transparent"}),
        ("moderation", {"moderation": "high"}),
        ("input_fidelity", {"input_fidelity": "high"}),
        ("quality", {"quality": "xhigh"}),
        ("quality", {"quality": ["low"]}),
        ("style", {"style": "vivid"}),
        ("output_format", {"output_format": "svg"}),
        ("output_format", {"output_format": "gif"}),
        ("output_compression", {"output_compression": 50}),
        ("output_compression", {"output_format": "png", "output_compression": 50}),
        ("partial_images", {"partial_images": 1}),
        ("response_format", {"response_format": "png"}),
        ("response_format", {"response_format": "url", "stream": True}),
        ("frame_count", {"frame_count": 2}),
        ("sampler_name", {"sampler_name": "Euler"}),
        ("a" * 100, {"a" * 200: 1}),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_with_the_field_s_path(path: str, change: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        parse({"prompt": "a fox"} | change, SETTINGS)
    error = refused.value.body()["error"]
    assert (error["code"], error["type"], error["param"]) == (400, "unsupported_parameter", path)


@pytest.mark.parametrize(
    "change",
    [
        *({"n": number} for number in (0, -1, 1.5, "many", True, "9" * 30)),
        {"n": [1]},
        *({"seed": seed} for seed in (-2, 2**32, "x", False)),
        *({"steps": steps} for steps in (0, "x")),
        *({"stream": "maybe"}, {"stream": 2}, {"stream": []}, {"stream": {}}),
        {"stream": True, "partial_images": 4},
        {"output_format": "jpeg", "output_compression": 101},
        {"model": 7},
        {"negative_prompt": ["x"]},
    ],
    ids=str,
)
def test_a_value_of_the_wrong_kind_is_refused_by_its_name(change: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=f"'{next(reversed(change))}'"):
        parse({"prompt": "a fox"} | change, SETTINGS)


def test_limits_are_told_in_the_caller_s_own_words() -> None:
    with pytest.raises(TooMuchWork, match="'n' may be 16 at most"):
        parse({"prompt": "a fox", "n": 17}, SETTINGS)
    with pytest.raises(TooMuchWork, match="'size'"):
        parse({"prompt": "a fox", "size": "64x8193"}, SETTINGS)


@pytest.mark.parametrize("body", [{}, {"prompt": ""}, {"prompt": ["a fox"]}, {"prompt": 5}, {"prompt": None}])
def test_a_prompt_is_required(body: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="'prompt' is required"):
        parse(body, SETTINGS)


@pytest.mark.parametrize("stream", [False, None, "false", "False", ""])
def test_stream_may_be_false(stream: object) -> None:
    assert parse({"prompt": "a fox", "stream": stream}, SETTINGS).stream is False


@pytest.mark.parametrize("text", [None, "", "auto"])
def test_no_size_is_the_default(text: object) -> None:
    assert parse_size(text, (3, 4)) == (3, 4)


@pytest.mark.parametrize("text", ["1024", "axb", "1x", "x1", "-1x5", "1.5x2", "123456x1", 1024, [1, 2], "1x2x3"])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(RequestError, match="'size' must be WIDTHxHEIGHT"):
        parse_size(text, (3, 4))


@pytest.mark.parametrize("size", ["0x10", "10x0", "7x64"])
def test_a_size_that_is_too_small_is_told_as_size(size: str) -> None:
    with pytest.raises(RequestError, match="^'size' must have 8 pixels"):
        parse({"prompt": "a fox", "size": size}, SETTINGS)


def test_an_edit_is_an_img2img_of_the_image_s_own_size() -> None:
    body = to_img2img({"prompt": "an owl", "n": "2"}, PHOTO, None, SETTINGS).body
    assert (body["prompt"], body["batch_size"], body["width"], body["height"]) == ("an owl", 2, 24, 16)
    assert (body["init_images"], body["denoising_strength"], body["steps"]) == ([PHOTO], EDIT_STRENGTH, 20)
    assert "mask" not in body


def test_an_edit_may_have_another_size() -> None:
    body = to_img2img({"prompt": "an owl", "size": "512x256"}, PHOTO, None, SETTINGS).body
    assert (body["width"], body["height"]) == (512, 256)


@pytest.mark.parametrize("mask", [cut_out(), None])
def test_what_is_transparent_is_painted(mask: str | None) -> None:
    body = to_img2img({"prompt": "an owl"}, PHOTO if mask else cut_out(), mask, SETTINGS).body
    image = painted(body)
    assert (image.getpixel((2, 2)), image.getpixel((20, 2)), image.size) == (255, 0, (24, 16))
    assert (body["denoising_strength"], body["inpaint_full_res"]) == (1.0, False)


def test_a_palette_may_be_transparent_too() -> None:
    file = io.BytesIO()
    Image.new("P", (8, 8), 0).save(file, "PNG", transparency=0)
    assert (
        painted(to_img2img({"prompt": "an owl"}, PHOTO, encoded(file.getvalue()), SETTINGS).body).getpixel((0, 0))
        == 255
    )


@pytest.mark.parametrize("mask", [PHOTO, cut_out(box=(0, 0, 0, 0))])
def test_a_mask_that_lets_nothing_be_painted_is_refused(mask: str) -> None:
    with pytest.raises(RequestError, match="'mask' must have transparent parts"):
        to_img2img({"prompt": "an owl"}, PHOTO, mask, SETTINGS)


@pytest.mark.parametrize(
    ("image", "mask", "error"),
    [("AAAA", None, InvalidImage), (PHOTO, "AAAA", InvalidImage), ("A" * 20_000, None, ImageTooLarge)],
)
def test_files_are_checked_before_anything_else_sees_them(image: str, mask: str | None, error: type) -> None:
    with pytest.raises(error):
        to_img2img({"prompt": "an owl"}, image, mask, SETTINGS)


def test_a_photo_is_turned_as_its_camera_says() -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    photo = Image.new("RGB", (24, 16), "red")
    photo.paste((0, 0, 255), (0, 0, 24, 8))
    photo.save(file, "JPEG", exif=exif.tobytes())
    body = to_img2img({"prompt": "an owl", "size": "auto"}, encoded(file.getvalue()), None, SETTINGS).body
    assert (body["width"], body["height"]) == (16, 24)
    turned = Image.open(io.BytesIO(base64.b64decode(body["init_images"][0])))
    left, right = turned.getpixel((2, 12)), turned.getpixel((14, 12))
    assert isinstance(left, tuple)
    assert isinstance(right, tuple)
    assert (turned.size, left[0] > 200, right[2] > 200) == ((16, 24), True, True)
