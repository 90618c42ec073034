from __future__ import annotations

import io
import json
from typing import Any

import pytest
from PIL import Image

from graycat.images import infotext
from graycat.images.output import FORMATS, OutputFormat, available_formats, convert, split_output
from graycat.images.replies import content_type
from graycat.images.webui_requests import check_generation
from graycat.settings import Settings

TEXT = "a fox\nSteps: 20, Sampler: Euler, Seed: 7"


def made() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, "PNG", pnginfo=infotext.to_png_chunks(TEXT))
    return file.getvalue()


@pytest.mark.parametrize("name", available_formats())
def test_an_image_is_written_anew_with_its_infotext(name: str) -> None:
    converted = convert(made(), OutputFormat(name, 50))
    assert content_type(converted) == f"image/{name}"
    with Image.open(io.BytesIO(converted)) as image:
        assert (image.format, image.size) == (FORMATS[name], (256, 256))
        assert infotext.read(image)[0] == TEXT


def test_quality_makes_a_file_smaller() -> None:
    assert len(convert(made(), OutputFormat("webp", 10))) < len(convert(made(), OutputFormat("webp", 95)))


def test_what_has_the_format_already_is_left_alone() -> None:
    assert convert(made(), OutputFormat("png")) == made()


def test_transparency_has_no_place_in_a_jpeg() -> None:
    file = io.BytesIO()
    Image.new("RGBA", (8, 8), (255, 0, 0, 128)).save(file, "PNG")
    assert content_type(convert(file.getvalue(), OutputFormat("jpeg"))) == "image/jpeg"


@pytest.mark.parametrize("image", [b"", b"no image", b"\x89PNG\r\n\x1a\n and so on"])
def test_what_cannot_be_converted_stays(image: bytes) -> None:
    assert convert(image, OutputFormat("webp")) == image


def test_a_wish_is_taken_out_of_a_body() -> None:
    body = {"prompt": "a fox", "graycat_output": {"format": "avif", "quality": 5}}
    sent, wish = split_output(json.dumps(body).encode())
    assert (json.loads(sent), wish) == ({"prompt": "a fox"}, OutputFormat("avif", 5))


@pytest.mark.parametrize("body", [b"{}", b'{"prompt": "graycat_output"}', b"graycat_output", b'["graycat_output"]'])
def test_a_body_without_a_wish_stays_as_it_is(body: bytes) -> None:
    assert split_output(body) == (body, None)


@pytest.mark.parametrize("value", [1, [], {}, {"format": "exe"}, {"format": ["png"]}, None, "webp"])
def test_what_is_no_wish_never_reaches_an_engine(value: Any) -> None:
    assert OutputFormat.from_field(value) is None
    assert "graycat_output" not in check_generation({"prompt": "x", "graycat_output": value}, Settings())


@pytest.mark.parametrize("quality", [-1, 101, True, "5", None])
def test_a_quality_that_is_none_is_the_default(quality: Any) -> None:
    assert OutputFormat.from_field({"format": "jpeg", "quality": quality}) == OutputFormat("jpeg")
