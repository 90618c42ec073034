"""Image files as they go over the wire: base64 in, base64 out, generation parameters inside."""

from __future__ import annotations

import base64
import binascii
from io import BytesIO

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from graycat.engines.placeholder.errors import HTTPException, OutOfMemoryError
from graycat.images.infotext import EXIF_IFD, USER_COMMENT, encode_user_comment

#: What an input may be.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
#: Pixels of one image, in or out: 4096 by 4096. A GPU gives up around there; upstream has no limit of its own.
MAX_PIXELS = 2**24
#: zlib's fastest: on these pictures three times as fast as its default, for files not much larger.
PNG_LEVEL = 1


def check_pixels(width: int, height: int, images: int = 1) -> None:
    """Raise OutOfMemoryError, as a GPU would, for what would take an absurd amount of memory.

    ``images``: of one request. Four full ones fit, or 256 of 512 by 512.
    """
    pixels = width * height
    if pixels > MAX_PIXELS or pixels * images > 4 * MAX_PIXELS:
        raise OutOfMemoryError(
            f"CUDA out of memory. Tried to allocate {pixels * images * 12 / 2**30:.2f} GiB "
            f"(placeholder: at most {MAX_PIXELS} pixels an image and {4 * MAX_PIXELS} a request)"
        )


def decode(encoded: str) -> Image.Image:
    """Return the image in a base64 string, bare or as a data URI; its pixels may still turn out broken.

    Raises HTTPException 500 for what is none, and for a URL: it is never fetched. OutOfMemoryError for a huge one.
    """
    if encoded.startswith(("http://", "https://")):
        raise HTTPException(500, "Request to local resource not allowed")
    if encoded.startswith("data:image/"):
        encoded = encoded.partition(",")[2]
    try:
        image = Image.open(BytesIO(base64.b64decode(encoded)), formats=FORMATS)
    except (binascii.Error, ValueError, UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise HTTPException(500, "Invalid encoded image") from error
    check_pixels(*image.size)
    return image


def encode(image: Image.Image, samples_format: str, quality: int, infotext: str | None = None) -> str:
    """Return an image as base64. ``samples_format``: png, jpg, jpeg or webp, else HTTPException 500."""
    file, kind = BytesIO(), samples_format.lower()
    if kind == "png":
        chunks = PngImagePlugin.PngInfo()
        if infotext is not None:
            chunks.add_text("parameters", infotext)
        image.save(file, "PNG", pnginfo=chunks, compress_level=PNG_LEVEL)
    elif kind in ("jpg", "jpeg", "webp"):
        exif = Image.Exif()
        exif.get_ifd(EXIF_IFD)[USER_COMMENT] = encode_user_comment(infotext or "")
        name = "WEBP" if kind == "webp" else "JPEG"
        image.convert("RGB").save(file, name, exif=exif.tobytes(), quality=quality)
    else:
        raise HTTPException(500, "Invalid image format")
    return base64.b64encode(file.getvalue()).decode("ascii")
