"""Moves images out of engine replies into artifacts, and back, so that the stored reply stays small.

An engine's reply holds images as base64, in ``images`` or ``image``. A task's result holds an ImageRef in place of each
image, and the bytes are an artifact. Some engines also repeat the images that the caller sent (sd-server always, others
for ``include_init_images``). Those are dropped, because the caller has them.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

from graycat.errors import EngineProtocolError

#: The first bytes of the formats that engines answer in.
_MAGIC = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))
#: The content type of anything else.
UNKNOWN = "application/octet-stream"

#: Fields of the echoed request (``parameters``) that repeat the caller's images.
_ECHOED = ("init_images", "extra_images", "mask")

#: ``{"artifact": number}``, stored in place of an image.
ImageRef = dict[str, int]


def extract_images(reply: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
    """Return a reply with an ImageRef in place of each image, and the images as bytes.

    Raises EngineProtocolError if an image is not base64.
    """
    images: list[bytes] = []

    def extract(text: Any) -> ImageRef:
        images.append(_decode_image(text))
        return {"artifact": len(images) - 1}

    extracted = dict(reply)
    if isinstance(reply.get("images"), list):
        extracted["images"] = [extract(image) for image in reply["images"]]
    if reply.get("image"):
        extracted["image"] = extract(reply["image"])

    echo = reply.get("parameters")
    if isinstance(echo, dict):
        extracted["parameters"] = dict(echo)
        for field in _ECHOED:
            if echo.get(field):
                extracted["parameters"][field] = None
    return extracted, images


def embed_images(reply: dict[str, Any], fetch: Callable[[int], bytes]) -> dict[str, Any]:
    """Return a reply with its images in it, as the engine wrote it. ``fetch`` returns an artifact by its number."""

    def embed(value: Any) -> Any:
        if isinstance(value, dict) and "artifact" in value:
            return b64encode(fetch(value["artifact"])).decode()
        return value

    whole = dict(reply)
    if isinstance(reply.get("images"), list):
        whole["images"] = [embed(value) for value in reply["images"]]
    if "image" in reply:
        whole["image"] = embed(reply["image"])
    return whole


def content_type(image: bytes) -> str:
    """Return the content type of an image by its first bytes."""
    for magic, name in _MAGIC:
        if image.startswith(magic):
            return name
    if image.startswith(b"RIFF") and image[8:12] == b"WEBP":
        return "image/webp"
    if image[4:12] == b"ftypavif":
        return "image/avif"
    return UNKNOWN


def _decode_image(text: Any) -> bytes:
    """Return the bytes of an image in a reply: bare base64, or a data URL."""
    try:
        if text.startswith("data:"):
            text = text.partition(",")[2]
        return b64decode(text)
    except (AttributeError, binascii.Error, ValueError):
        raise EngineProtocolError from None
