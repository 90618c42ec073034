from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from graycat.images.places import holds_place, is_place

PLACES = [
    "/etc/passwd",
    "/etc",
    "/",
    "  /etc/passwd",
    '"/etc/passwd"',
    "'/srv/my pictures/a.png'",
    "/./etc/passwd",
    "//host/share",
    "C:\\x.png",
    "c:/x.png",
    "C:",
    "\\\\host\\share",
    "\\Windows\\x",
    "~/x.png",
    "~root/x.png",
    "~",
    "$HOME/x",
    "${HOME}/x",
    "%TEMP%\\x",
    "../x.png",
    "..",
    "models/../../etc/passwd",
    "a\\..\\b",
    "x/..",
    "http://host/x.png",
    "HTTPS://host",
    "file:/etc",
    "file:etc",
    "ftp://x",
    "http:\\\\host",
    "s3://bucket/x",
    "data:text/html,x",
    "\n\t/etc",
    "\xa0/etc/passwd",
    "\u3000\u2003'file:///etc/passwd'\u2028",
    "\ufeff\u200b~/x.png",
    "\x1c../x.png\x1f",
    "gopher:/x",
]
TEXTS = [
    "",
    "sub/model.safetensors",
    "model.safetensors [abc123]",
    "a cat/dog",
    "and/or",
    "/imagine a cat",
    "(cat:1.2), \\(dog\\)",
    "\\(dog\\), cat",
    "see https://example.com",
    "ratio 16:9",
    "a: b",
    "...",
    "wait... what",
    "~anime~",
    "50% off",
    "$5",
    "control_v11p",
    "black/white",
    "<lora:x:0.5>",
    "v1.5/..x",
    "None",
    "canny",
    "16/9",
    "key: value",
    "data",
    "c: a cat",
    "style:",
    "data: cats",
]


@pytest.mark.parametrize("text", PLACES)
def test_a_place_is_found_at_any_depth(text: str) -> None:
    assert is_place(text)
    for value in ([[{"args": [{"image": {"image": text}}]}]], {"a": {text: 1}}, [None, 1, [text]]):
        assert holds_place(value)


@pytest.mark.parametrize("text", TEXTS)
def test_names_and_words_pass(text: str) -> None:
    assert not is_place(text)
    assert not holds_place({"args": [text, {"x": [text]}]})


@pytest.mark.parametrize("begin", [b"\xff\xd8\xff\xe0\x00\x10JFIF", b"\x89PNG\r\n\x1a\n", b"RIFF\x00\x00\x00\x00WEBP"])
def test_base64_of_an_image_passes(begin: bytes) -> None:
    text = b64encode(begin + bytes(range(256)) * 9).decode()
    wrapped: Any = "\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    for image in (text, wrapped, f"data:image/png;base64,{text}"):
        assert not is_place(image)


def test_what_only_begins_like_a_jpeg_is_a_path() -> None:
    assert is_place("/9j/../etc/passwd")
    assert is_place("/9j/x.png")


def test_every_blank_of_python_is_one_around_a_path() -> None:
    """An engine in Python strips them all."""
    blanks = [character for character in map(chr, range(0x3001)) if character.isspace()]
    assert [blank for blank in blanks if not is_place(f"{blank}/etc/passwd{blank}")] == []
