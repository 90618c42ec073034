"""Images in requests: each is checked and decoded once before it reaches an engine.

An image comes as base64, either bare or as a ``data:image/...`` URL. Other URLs are refused: the WebUI would fetch them
itself, from inside the operator's network.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from PIL import Image

from graycat.errors import RequestError
from graycat.images.errors import ImageTooLarge, InvalidImage
from graycat.settings import Settings

#: The formats that Pillow may try, and graycat's name for each.
FORMATS = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp"}
#: Pillow reads a PNG's chunks and a JPEG's segments one by one in Python: a million empty ones take seconds, a million
#: Exif segments take minutes. An encoder writes at least 8 KiB into each chunk.
MAX_PARTS = 10_000
#: Each scan of a progressive JPEG costs a pass over all pixels, however few bytes it has. Encoders write about ten.
MAX_SCANS = 100

_DATA_URL = re.compile(r"data:image/[\w.+-]+(;[\w=.+-]+)*;base64", re.ASCII | re.IGNORECASE)
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
#: A JPEG marker. Inside pixel data FF is followed by 00 or by a restart number, so those are excluded.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_START_OF_SCAN, _END = 0xDA, 0xD9
#: Kinds of segments that begin with their length.
_SEGMENTS = frozenset({*range(0xC0, 0xD0), *range(0xDA, 0xF0), 0xFE})


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """An image that decodes without errors. ``format``: ``png``, ``jpeg`` or ``webp``; width and height in pixels."""

    data: bytes
    format: str
    width: int
    height: int

    @property
    def base64(self) -> str:
        """Return the file as bare base64, without line breaks."""
        return base64.b64encode(self.data).decode()


def decode(text: object, settings: Settings) -> CheckedImage:
    """Return the image in a field of a request.

    Raises InvalidImage if the field holds no image, a truncated one, one of several frames, or a URL. Raises
    ImageTooLarge, before anything is decoded, if the image has too many bytes or pixels.
    """
    payload = _payload(text)
    # Base64 writes three bytes as four characters, padding included.
    if len(payload) > -(-settings.max_image_bytes // 3) * 4:
        raise ImageTooLarge(f"an image may have {settings.max_image_bytes} bytes")
    try:
        data = base64.b64decode(payload, validate=True)
    except ValueError:
        raise InvalidImage("an image is not base64: wrong characters, or wrong padding") from None
    if len(data) > settings.max_image_bytes:
        raise ImageTooLarge(f"an image may have {settings.max_image_bytes} bytes, not {len(data)}")
    return decode_file(data, settings)


def decode_field(path: str, value: object, settings: Settings) -> CheckedImage:
    """Return the checked image of a request's field, whose path errors tell. Raises what ``decode`` raises."""
    try:
        return decode(value, settings)
    except RequestError as error:
        raise type(error)(f"{path!r}: {error}").at(path) from None


def decode_file(data: bytes, settings: Settings) -> CheckedImage:
    """Return the image in a file's bytes. Raises as ``decode`` does. Takes up to a second; safe in any thread."""
    try:
        _check_parts(data)
        with Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
            checked = _check_header(image, data, settings)
            # Checks a PNG's checksums and its end. Pillow cannot use the image object afterwards.
            image.verify()
        with Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
            image.load()
    except RequestError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageTooLarge(f"an image may have {settings.max_image_pixels} pixels") from None
    except Exception:  # noqa: BLE001 (Pillow does not document what it raises on crafted bytes)
        raise InvalidImage("an image is damaged, or it is not a PNG, JPEG or WebP") from None
    return checked


def _payload(text: object) -> str:
    """Return a field's base64, without the start of a data URL and without the line breaks that some encoders add."""
    if not isinstance(text, str):
        raise InvalidImage("an image must be a string of base64")
    payload = text
    if text[:5].lower() == "data:":
        start, comma, payload = text.partition(",")
        if comma and not _DATA_URL.fullmatch(start):
            raise InvalidImage("a data URL of an image must begin like 'data:image/png;base64,'")
    # Base64 has no colons, so a colon means a URL or a path.
    if ":" in payload[:100]:
        raise InvalidImage("an image must be sent as base64; this server fetches no URLs and opens no files")
    payload = "".join(payload.split())
    if not payload:
        raise InvalidImage("an image is empty")
    return payload


def _check_header(image: Image.Image, data: bytes, settings: Settings) -> CheckedImage:
    """Check the size and the format in an opened image's header; its pixels are not decoded yet."""
    width, height = image.size
    if min(width, height) < 1:
        raise InvalidImage("an image has no pixels")
    if max(width, height) > settings.max_side or width * height > settings.max_image_pixels:
        limit = f"{settings.max_image_pixels} pixels and {settings.max_side} on a side"
        raise ImageTooLarge(f"an image may have {limit}, not {width} x {height}")
    # Pillow reports a JPEG of several pictures as the format MPO.
    if image.format not in FORMATS or getattr(image, "n_frames", 1) != 1:
        raise InvalidImage("an image must have one frame; animated images are not accepted")
    return CheckedImage(data, FORMATS[image.format], width, height)


def _check_parts(data: bytes) -> None:
    """Raise InvalidImage for a file of more parts, or more scans, than any encoder writes."""
    if data.startswith(_PNG):
        chunks = list(islice(_png_chunks(data), MAX_PARTS + 1))
        if len(chunks) > MAX_PARTS:
            raise InvalidImage(f"an image has more than {MAX_PARTS} chunks")
    elif data.startswith(_JPEG):
        kinds = list(islice(_jpeg_segments(data), MAX_PARTS + 1))
        if len(kinds) > MAX_PARTS or kinds.count(_START_OF_SCAN) > MAX_SCANS:
            raise InvalidImage(f"an image has more than {MAX_PARTS} segments, or {MAX_SCANS} scans")


def _png_chunks(data: bytes) -> Iterator[int]:
    """Yield the end (an offset in ``data``) of each chunk, up to the chunk that ends the image."""
    offset = len(_PNG)
    name = b""
    while name != b"IEND":
        name = data[offset + 4 : offset + 8]
        # A chunk is its length, its name and its checksum, of four bytes each, and its content.
        offset += 12 + int.from_bytes(data[offset : offset + 4])
        # Pillow would accept an image whose last checksum is missing.
        if offset > len(data):
            raise InvalidImage("an image is cut short")
        yield offset


def _jpeg_segments(data: bytes) -> Iterator[int]:
    """Yield the kind of each segment up to the end of the image. Cameras append other data, such as films, after it."""
    offset = len(_JPEG)
    in_pixels = False
    while marker := _MARKER.search(data, offset):
        kind = data[marker.start() + 1]
        gap = data[offset : marker.start()]
        if kind == _END:
            return
        # Up to eight fill bytes may precede a segment. Pillow would skip any other bytes one by one in Python.
        only_fill_bytes = gap == b"\xff" * min(len(gap), 8)
        if kind not in _SEGMENTS or not (in_pixels or only_fill_bytes):
            raise InvalidImage("an image is damaged: a JPEG with stray bytes between its segments")
        yield kind
        in_pixels = in_pixels or kind == _START_OF_SCAN
        length = int.from_bytes(data[marker.end() : marker.end() + 2])
        offset = marker.end() + max(2, length)
