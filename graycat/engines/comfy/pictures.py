"""Pictures for ComfyUI and from it: what a WebUI does to them itself, and the texts that their files hold."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from PIL import Image, ImageFilter, ImageOps

from graycat.errors import RequestError
from graycat.images.decoding import decode
from graycat.settings import Settings

Size = tuple[int, int]
_PNG = b"\x89PNG\r\n\x1a\n"
#: Chunks of a PNG that hold texts; ComfyUI writes its workflow there.
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"eXIf")
#: Chunks of a WebP that hold texts, and their bits among its flags.
_WEBP_TEXTS = {b"EXIF": 0x08, b"XMP ": 0x04}
#: The WebUI's default blur of a mask, in pixels, and the most.
DEFAULT_BLUR, MAX_BLUR = 4, 64
#: Values of ``resize_mode``.
STRETCH, CROP = 0, 1


def prepare_image(text: Any, size: Size, resize_mode: int, settings: Settings) -> bytes:
    """Return an image of a request as a PNG of the size that is made. Raises RequestError."""
    return _encode(_fit(_open(text, settings).convert("RGB"), size, resize_mode))


def prepare_whole(text: Any, settings: Settings) -> tuple[bytes, Size]:
    """Return an image of a request as a PNG of its own size, and that size. Raises RequestError."""
    image = _open(text, settings).convert("RGB")
    return _encode(image), image.size


def prepare_mask(body: dict[str, Any], size: Size, settings: Settings) -> bytes:
    """Return the mask of a request as a PNG whose red is painted where it is white. Raises RequestError."""
    mask = _open(body["mask"], settings)
    if "A" in mask.getbands() and "transparency" not in mask.info:
        # As a WebUI: the alpha channel counts only through the picture that lies on black.
        background = Image.new("RGBA", mask.size, (0, 0, 0, 255))
        mask = Image.alpha_composite(background, mask.convert("RGBA"))
    mask = mask.convert("L")
    if body.get("inpainting_mask_invert"):
        mask = ImageOps.invert(mask)
    mask = _fit(mask, size, _mode(body))
    blur = (_blur(body, "mask_blur_x"), _blur(body, "mask_blur_y"))
    if any(blur):
        mask = mask.filter(ImageFilter.GaussianBlur(blur))
    return _encode(mask.convert("RGB"))


def resize_mode(body: dict[str, Any]) -> int:
    """Return how images of a request are fitted."""
    return _mode(body)


def _mode(body: dict[str, Any]) -> int:
    return CROP if str(body.get("resize_mode") or 0) == "1" else STRETCH


def _blur(body: dict[str, Any], name: str) -> float:
    value = body.get(name)
    if value is None:
        value = body.get("mask_blur")
    if value is None:
        value = DEFAULT_BLUR
    try:
        blur = float(value)
        if isinstance(value, bool) or not 0 <= blur <= MAX_BLUR:
            raise ValueError
    except (TypeError, ValueError):
        raise RequestError(f"{name!r} must be a number of pixels, 0 to {MAX_BLUR}") from None
    return blur


def _open(text: Any, settings: Settings) -> Image.Image:
    checked = decode(text, settings)
    with Image.open(io.BytesIO(checked.data), formats=[checked.format.upper()]) as image:
        image.load()
        return ImageOps.exif_transpose(image)


def _fit(image: Image.Image, size: Size, mode: int) -> Image.Image:
    if mode == CROP:
        return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    return image.resize(size, Image.Resampling.LANCZOS)


def _encode(image: Image.Image) -> bytes:
    output = io.BytesIO()
    image.save(output, "PNG", compress_level=1)
    return output.getvalue()


def size_of(data: bytes) -> Size:
    """Return width and height of an image file. Raises ValueError if it is none."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
            return image.size
    except (OSError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError("no image") from None


def strip_texts(data: bytes) -> bytes:
    """Return an image file without the texts in it; its pixels stay as they are. Raises ValueError for a broken one.

    ComfyUI writes the whole workflow into PNG, and into the Exif data of WebP.
    """
    if data.startswith(_PNG):
        return _PNG + b"".join(chunk for name, chunk in _png_chunks(data) if name not in _TEXT_CHUNKS)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _strip_webp(data)
    return data


def add_infotext(data: bytes, infotext: str) -> bytes:
    """Return a PNG with a WebUI's infotext; any other file as it is. Raises ValueError for a broken one."""
    if not data.startswith(_PNG):
        return data
    chunks = list(_png_chunks(data))
    text = b"parameters\0\0\0\0\0" + infotext.encode("utf-8", "replace")
    chunks.insert(1, (b"iTXt", _png_chunk(b"iTXt", text)))
    return _PNG + b"".join(chunk for _, chunk in chunks)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and bytes of each chunk of a PNG."""
    offset, name = len(_PNG), b""
    while name != b"IEND":
        if offset + 12 > len(data):
            raise ValueError("a PNG that is cut short")
        length, name = struct.unpack(">I4s", data[offset : offset + 8])
        end = offset + 12 + length
        if end > len(data):
            raise ValueError("a PNG that is cut short")
        yield name, data[offset:end]
        offset = end


def _png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _strip_webp(data: bytes) -> bytes:
    kept = bytearray(b"WEBP")
    offset = 12
    while offset + 8 <= len(data):
        name, length = struct.unpack("<4sI", data[offset : offset + 8])
        # Chunks are padded to an even length.
        end = offset + 8 + length + length % 2
        chunk = bytearray(data[offset:end])
        if name == b"VP8X" and len(chunk) > 8:
            chunk[8] &= ~sum(_WEBP_TEXTS.values())
        if name not in _WEBP_TEXTS:
            kept += chunk
        offset = end
    return b"RIFF" + struct.pack("<I", len(kept)) + bytes(kept)
