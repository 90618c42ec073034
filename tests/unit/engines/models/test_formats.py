from __future__ import annotations

import json
from pathlib import Path

import pytest

from graycat.engines.models import formats
from graycat.engines.models.errors import DownloadFailed
from tests.support.files import gguf, safetensors


@pytest.mark.parametrize("name", ["a.gguf", "A.GGUF", "a.safetensors"])
def test_formats_of_numbers_are_always_permitted(name: str) -> None:
    assert formats.is_checkpoint_name(name, allow_pickle=False)


@pytest.mark.parametrize("name", ["a.ckpt", "a.pt", "a.PTH", "a.bin"])
def test_pickles_are_permitted_on_demand(name: str) -> None:
    assert not formats.is_checkpoint_name(name, allow_pickle=False)
    assert formats.is_checkpoint_name(name, allow_pickle=True)
    assert formats.is_pickle_name(name)


@pytest.mark.parametrize("name", ["a", "a.zip", "a.gguf.json", "a.partial", ""])
def test_nothing_else_is_a_checkpoint(name: str) -> None:
    assert not formats.is_checkpoint_name(name, allow_pickle=True)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("m.gguf", "m.gguf"),
        ("../m.gguf", "m.gguf"),
        ("a\\b\\m.gguf", "m.gguf"),
        ("/etc/passwd", ""),
        ("..", ""),
        ("", ""),
        (".gguf", ""),
        ("..hidden.gguf", "hidden.gguf"),
        ("-rf.gguf", "rf.gguf"),
        ("a\0b\n.gguf", "a_b_.gguf"),
        ("modèle-Q4_K_M.gguf", "modèle-Q4_K_M.gguf"),
        ("m-00001-of-00002.gguf", "m-00001-of-00002.gguf"),
    ],
)
def test_a_foreign_name_is_made_harmless(text: str, name: str) -> None:
    assert formats.clean_name(text) == name


def test_the_first_name_that_fits_is_taken() -> None:
    assert formats.choose_name(("", "page.html", "../m.gguf", "n.gguf"), allow_pickle=False) == "m.gguf"
    with pytest.raises(DownloadFailed, match=r"\.gguf or \.safetensors"):
        formats.choose_name(("", "page.html"), allow_pickle=False)


@pytest.mark.parametrize(
    ("name", "content"),
    [("m.gguf", gguf(1000)), ("m.safetensors", safetensors()), ("m.ckpt", b"PK\x03\x04abc"), ("m.pt", b"\x80\x02abc")],
)
def test_a_file_is_what_its_name_says(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "content"
    path.write_bytes(content)
    formats.check_file(path, name)


def tensors(header: object, size: int) -> bytes:
    """Return a .safetensors of a header and so many bytes."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.gguf", b"GGML" + bytes(100)),
        ("m.gguf", b"GGUF"),
        ("m.safetensors", safetensors()[:-1]),
        ("m.safetensors", safetensors() + b"x"),
        ("m.safetensors", tensors({"w": {}}, 0)),
        ("m.safetensors", tensors({"w": 5}, 0)),
        ("m.safetensors", b"\xff" * 7 + b"\x7f{" + bytes(100)),
        ("m.safetensors", (50).to_bytes(8, "little") + b"{" + bytes(49)),
        ("m.ckpt", b"GGUF" + bytes(100)),
        ("m.gguf", b""),
    ],
)
def test_content_of_another_format_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "content"
    path.write_bytes(content)
    with pytest.raises(DownloadFailed, match="content is not"):
        formats.check_file(path, name)


def test_the_metadata_of_a_safetensors_are_no_tensor(tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(tensors({"__metadata__": {"by": "us"}, "w": {"data_offsets": [0, 10]}}, 10))
    formats.check_file(path, "m.safetensors")
