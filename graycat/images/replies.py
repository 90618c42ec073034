"""Replies of image engines, their images taken out and put back: what lies between is small enough for a record.

An engine's reply holds images as base64, in ``images`` or ``image``. In a task's result each is its ImageRef instead;
the bytes are an artifact. Those that the caller sent and an engine repeats (sd-server always, others for
``include_init_images``) are left out: the caller has them.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

from graycat.errors import EngineProtocolError

#: How the formats that engines answer in begin.
_MAGIC = ((b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"RIFF", "image/webp"))

#: Where the echo of a request repeats its images.
_ECHOED = ("init_images", "extra_images", "mask")

#: ``{"artifact": number}``, in the place of an image.
ImageRef = dict[str, int]


def take_out(reply: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
    """Return a reply without its images, and these as bytes. Raises EngineProtocolError for what is no base64."""
    images: list[bytes] = []

    def replaced(text: Any) -> ImageRef:
        try:
            images.append(b64decode(text.partition(",")[2] if text.startswith("data:") else text))
        except (AttributeError, binascii.Error, ValueError):
            raise EngineProtocolError from None
        return {"artifact": len(images) - 1}

    without = dict(reply)
    if isinstance(reply.get("images"), list):
        without["images"] = [replaced(image) for image in reply["images"]]
    if reply.get("image"):
        without["image"] = replaced(reply["image"])
    if isinstance(echo := reply.get("parameters"), dict):
        without["parameters"] = echo | {field: None for field in _ECHOED if echo.get(field)}
    return without, images


def put_back(reply: dict[str, Any], fetch: Callable[[int], bytes]) -> dict[str, Any]:
    """Return a reply with its images in it, as the engine wrote it; ``fetch`` returns an artifact by its number."""

    def inlined(value: Any) -> Any:
        return (
            b64encode(fetch(value["artifact"])).decode() if isinstance(value, dict) and "artifact" in value else value
        )

    whole = dict(reply)
    if isinstance(reply.get("images"), list):
        whole["images"] = [inlined(value) for value in reply["images"]]
    if "image" in reply:
        whole["image"] = inlined(reply["image"])
    return whole


def content_type(image: bytes) -> str:
    """Return the content type of an image by its first bytes."""
    return next((kind for magic, kind in _MAGIC if image.startswith(magic)), "application/octet-stream")
