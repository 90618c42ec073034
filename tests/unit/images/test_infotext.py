from __future__ import annotations

import io

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from graycat.images import infotext
from tests.support.webuis import picture


@pytest.mark.parametrize(
    ("prompt", "negative"),
    [("a fox", ""), ("a fox", "rain"), ("one\ntwo: three, four", "a\nb"), ("", "rain"), ('"quoted"', "")],
)
def test_what_is_written_is_read(prompt: str, negative: str) -> None:
    pairs = {"Steps": 4, "Sampler": "Euler a", "Seed": 5, "Size": "64x128", "Note": 'a, "b": c', "Nothing": None}
    parsed = infotext.parse(infotext.build(prompt, negative, pairs))
    assert (parsed["Prompt"], parsed["Negative prompt"]) == (prompt, negative)
    expected = {"Steps": "4", "Sampler": "Euler a", "Seed": "5", "Size-1": "64", "Size-2": "128", "Note": 'a, "b": c'}
    assert {key: parsed[key] for key in expected} == expected
    assert "Nothing" not in parsed
    assert "Size" not in parsed


def test_a_line_with_few_pairs_is_part_of_the_prompt() -> None:
    assert infotext.parse("style: oil, light: soft")["Prompt"] == "style: oil, light: soft"


def test_nothing_gives_the_defaults() -> None:
    assert infotext.parse("") == {"Prompt": "", "Negative prompt": ""} | infotext.DEFAULTS


def test_a_long_line_is_read_in_no_time() -> None:
    assert infotext.parse("word " * 40_000)["Prompt"].startswith("word")


@pytest.mark.parametrize("text", ["a fox, Größe 5", "plain"])
def test_a_text_is_read_out_of_every_format(text: str) -> None:
    for kind in ("PNG", "JPEG", "WEBP"):
        file = io.BytesIO()
        exif = Image.Exif()
        exif.get_ifd(infotext.EXIF_IFD)[infotext.USER_COMMENT] = infotext.encode_user_comment(text)
        info = PngInfo()
        info.add_itxt("parameters", text)
        info.add_text("Software", "graycat")
        Image.new("RGB", (8, 8)).save(file, kind, **({"pnginfo": info} if kind == "PNG" else {"exif": exif}))
        with Image.open(file) as image:
            found, items = infotext.read(image)
        assert found == text
        assert items == ({"Software": "graycat"} if kind == "PNG" else {})


def test_an_image_that_says_nothing_has_no_text() -> None:
    assert infotext.read(Image.new("RGB", (8, 8))) == ("", {})
    with Image.open(io.BytesIO(picture(kind="JPEG"))) as image:
        assert infotext.read(image)[0] == ""


@pytest.mark.parametrize(
    ("comment", "text"),
    [
        (b"ASCII\0\0\0a fox\0", "a fox"),
        (b"a fox", "a fox"),
        (b"UNICODE\0\0a\0 \0f\0o\0x", "a fox"),
        (b"UNICODE\0\0", "\N{REPLACEMENT CHARACTER}"),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_comment_is_read_however_its_writer_spelt_it(comment: bytes, text: str) -> None:
    image = Image.new("RGB", (8, 8))
    image.getexif().get_ifd(infotext.EXIF_IFD)[infotext.USER_COMMENT] = comment
    assert infotext.read(image)[0] == text
