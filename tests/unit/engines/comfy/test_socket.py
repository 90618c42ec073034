from __future__ import annotations

import json
import struct

import pytest

from graycat.engines.comfy.socket import ComfySocket, SocketLost, parse_binary, parse_text
from tests.support.ports import free_ports

JPEG = b"\xff\xd8\xff\xe0image"


def with_metadata(metadata: bytes, image: bytes = JPEG) -> bytes:
    return struct.pack(">II", 4, len(metadata)) + metadata + image


def test_previews_are_read() -> None:
    bare = parse_binary(struct.pack(">II", 1, 1) + JPEG)
    assert bare is not None
    assert (bare.type, bare.prompt_id, bare.image) == ("preview", "", JPEG)
    named = parse_binary(with_metadata(json.dumps({"prompt_id": "ours"}).encode()))
    assert named is not None
    assert (named.prompt_id, named.image) == ("ours", JPEG)


@pytest.mark.parametrize(
    "frame",
    [
        b"", b"\0" * 7, b"\0" * 8, struct.pack(">II", 1, 3) + JPEG, struct.pack(">II", 1, 1) + b"<html>",
        struct.pack(">II", 3, 1) + b"x", struct.pack(">II", 4, 2**32 - 1) + b"{}", with_metadata(b"[]"),
        with_metadata(b"{"), with_metadata(b"{}", b"no image"),
    ],
)  # fmt: skip
def test_what_is_no_preview_is_left_out(frame: bytes) -> None:
    assert parse_binary(frame) is None


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", "7", '{"type": 5, "data": {}}', '{"type": "a"}', "[" * 100_000]
)
def test_what_is_no_message_is_left_out(text: str) -> None:
    assert parse_text(text) is None


def test_an_id_that_is_no_text_is_none() -> None:
    message = parse_text('{"type": "progress", "data": {"prompt_id": 7}}')
    assert message is not None
    assert message.prompt_id == ""


def test_a_socket_that_nobody_answers_is_lost() -> None:
    (port,) = free_ports(1)
    with pytest.raises(SocketLost):
        ComfySocket(f"http://127.0.0.1:{port}", "me", {})
