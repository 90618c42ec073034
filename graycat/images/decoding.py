"""Images in requests: checked, and decoded once, before any engine sees them.

An image comes as base64, bare or as a ``data:image/...`` address. Callers never choose an address that is fetched: the
WebUI would fetch it itself, from inside the operator's network.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import islice

from PIL import Image

from graycat.errors import RequestError
from graycat.images.errors import ImageTooLarge, InvalidImage
from graycat.settings import Settings

#: What Pillow may try, and how the rest of graycat calls it.
FORMATS = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp"}
#: Pillow reads a PNG's chunks and a JPEG's segments one by one in Python: a million empty ones take it seconds, a
#: million Exif segments minutes. An encoder writes a chunk for each 8 KiB at the least.
MAX_PARTS = 10_000
#: Each scan of a progressive JPEG is a pass over all its pixels for a few bytes; encoders make about ten.
MAX_SCANS = 100

_DATA_ADDRESS = re.compile(r"data:image/[\w.+-]+(;[\w=.+-]+)*;base64", re.ASCII | re.IGNORECASE)
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
#: A JPEG's marker; among pixels FF is followed by 00, or by a restart's number.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_START_OF_SCAN, _END = 0xDA, 0xD9
#: Kinds of segments that say how long they are.
_SEGMENTS = frozenset({*range(0xC0, 0xD0), *range(0xDA, 0xF0), 0xFE})


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What one request may ask for and send; ``graycat.settings`` says what each is and why."""

    max_pixels: int
    max_side: int
    max_images: int
    max_steps: int
    max_image_bytes: int
    max_image_pixels: int

    @classmethod
    def from_settings(cls, settings: Settings) -> ImageLimits:
        """Return the operator's limits."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """An image that decodes: its file's bytes, ``png``, ``jpeg`` or ``webp``, and its size in pixels as stored."""

    data: bytes
    format: str
    width: int
    height: int

    @property
    def base64(self) -> str:
        """Return the file as bare base64, in the one way to write it."""
        return base64.b64encode(self.data).decode()


def decode(text: object, limits: ImageLimits) -> CheckedImage:
    """Return the image that a field of a request holds.

    Raises InvalidImage where it is none, is cut short, has several frames or is an address; ImageTooLarge where it has
    more bytes or pixels than it may, before any of them is decoded.
    """
    payload = _payload(text)
    # Three bytes make four characters, padding included.
    if len(payload) > -(-limits.max_image_bytes // 3) * 4:
        raise ImageTooLarge(f"an image may have {limits.max_image_bytes} bytes")
    try:
        data = base64.b64decode(payload, validate=True)
    except ValueError:
        raise InvalidImage("an image is not base64: wrong characters, or wrong padding") from None
    if len(data) > limits.max_image_bytes:
        raise ImageTooLarge(f"an image may have {limits.max_image_bytes} bytes, not {len(data)}")
    return inspect(data, limits)


def inspect(data: bytes, limits: ImageLimits) -> CheckedImage:
    """Return the image that a file's bytes are. Raises as ``decode`` does. Takes up to a second; safe in any thread."""
    try:
        _check_parts(data)
        with Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
            checked = _check_header(image, data, limits)
            # A PNG's checksums, and that it has an end; a file is unusable afterwards.
            image.verify()
        with Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
            image.load()
    except RequestError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageTooLarge(f"an image may have {limits.max_image_pixels} pixels") from None
    except Exception:  # noqa: BLE001 (what Pillow raises on crafted bytes is nowhere listed; the bytes are at fault)
        raise InvalidImage("an image is damaged, or is no PNG, JPEG or WebP") from None
    return checked


def _payload(text: object) -> str:
    """Return the base64 of a field, without the data address's start and the line breaks of some encoders."""
    if not isinstance(text, str):
        raise InvalidImage("an image must be a string of base64")
    start, comma, payload = text.partition(",") if text[:5].lower() == "data:" else ("", "", text)
    if comma and not _DATA_ADDRESS.fullmatch(start):
        raise InvalidImage("a data address of an image must begin with 'data:image/png;base64,' or the like")
    # No base64 has a colon.
    if ":" in payload[:100]:
        raise InvalidImage("an image must be sent as base64; this server fetches no addresses and opens no files")
    payload = "".join(payload.split())
    if not payload:
        raise InvalidImage("an image is empty")
    return payload


def _check_header(image: Image.Image, data: bytes, limits: ImageLimits) -> CheckedImage:
    """Return what an opened image says of itself; its pixels are not decoded yet."""
    width, height = image.size
    if min(width, height) < 1:
        raise InvalidImage("an image has no pixels")
    if max(width, height) > limits.max_side or width * height > limits.max_image_pixels:
        most = f"{limits.max_image_pixels} pixels and {limits.max_side} on a side"
        raise ImageTooLarge(f"an image may have {most}, not {width} x {height}")
    # Pillow calls a JPEG of several pictures MPO.
    if image.format not in FORMATS or getattr(image, "n_frames", 1) != 1:
        raise InvalidImage("an image must have one frame, it may not be animated")
    return CheckedImage(data, FORMATS[image.format], width, height)


def _check_parts(data: bytes) -> None:
    """Refuse a file of more parts, or more scans, than any encoder makes."""
    parts = _png_chunks(data) if data.startswith(_PNG) else _jpeg_segments(data) if data.startswith(_JPEG) else ()
    first = list(islice(parts, MAX_PARTS + 1))
    if len(first) > MAX_PARTS or first.count(_START_OF_SCAN) > MAX_SCANS:
        raise InvalidImage(f"an image has more than {MAX_PARTS} parts, or {MAX_SCANS} scans")


def _png_chunks(data: bytes) -> Iterator[int]:
    """Yield where each chunk ends, up to the image's end."""
    at, name = len(_PNG), b""
    while name != b"IEND":
        name = data[at + 4 : at + 8]
        # Behind its length a chunk has a name and a checksum of four bytes each.
        at += 12 + int.from_bytes(data[at : at + 4])
        # Pillow would do without the last one's checksum.
        if at > len(data):
            raise InvalidImage("an image is cut short")
        yield at


def _jpeg_segments(data: bytes) -> Iterator[int]:
    """Yield the kind of each segment up to the image's end; cameras put films behind it."""
    at, in_pixels = len(_JPEG), False
    while found := _MARKER.search(data, at):
        kind, gap = data[found.start() + 1], data[at : found.start()]
        if kind == _END:
            return
        # A few fill bytes may stand before a segment; Pillow would skip any others one by one in Python.
        if kind not in _SEGMENTS or not (in_pixels or gap == b"\xff" * min(len(gap), 8)):
            raise InvalidImage("an image is damaged: a JPEG with stray bytes between its segments")
        yield kind
        in_pixels = in_pixels or kind == _START_OF_SCAN
        at = found.end() + max(2, int.from_bytes(data[found.end() : found.end() + 2]))
