"""Image files as the API carries them: base64 strings, with the generation parameters inside the file."""

from __future__ import annotations

import base64
import binascii
from io import BytesIO

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from graycat.engines.placeholder.errors import HTTPException, OutOfMemoryError
from graycat.images.infotext import EXIF_IFD, USER_COMMENT, encode_user_comment

#: Width and height in pixels.
Size = tuple[int, int]

#: Accepted formats of input images.
INPUT_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
#: Most pixels of one image, input or output: 4096 by 4096. That is about what a GPU can do; upstream has no limit.
MAX_PIXELS = 2**24
#: zlib's fastest level: for these pictures three times as fast as its default, for files that are not much larger.
PNG_LEVEL = 1


def check_pixels(width: int, height: int, images: int = 1) -> None:
    """Raise OutOfMemoryError, as a GPU would, for images that would need too much memory.

    ``images``: their number in one request. Four of the largest size are allowed, or 256 of 512 by 512.
    """
    pixels = width * height
    if pixels > MAX_PIXELS or pixels * images > 4 * MAX_PIXELS:
        raise OutOfMemoryError(
            f"CUDA out of memory. Tried to allocate {pixels * images * 12 / 2**30:.2f} GiB "
            f"(placeholder: at most {MAX_PIXELS} pixels an image and {4 * MAX_PIXELS} a request)"
        )


def decode(encoded: str) -> Image.Image:
    """Return the image in a base64 string, bare or as a data URI. Its pixels are not read yet and may be broken.

    Raises HTTPException 500 for anything else; a URL is never fetched. Raises OutOfMemoryError for a huge image.
    """
    if encoded.startswith(("http://", "https://")):
        raise HTTPException(500, "Request to local resource not allowed")
    if encoded.startswith("data:image/"):
        encoded = encoded.partition(",")[2]
    try:
        image = Image.open(BytesIO(base64.b64decode(encoded)), formats=INPUT_FORMATS)
    except (binascii.Error, ValueError, UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise HTTPException(500, "Invalid encoded image") from error
    check_pixels(*image.size)
    return image


def encode(image: Image.Image, samples_format: str, quality: int, infotext: str | None = None) -> str:
    """Return an image as base64. ``samples_format``: png, jpg, jpeg or webp; raises HTTPException 500 for others."""
    file = BytesIO()
    file_format = samples_format.lower()
    if file_format == "png":
        chunks = PngImagePlugin.PngInfo()
        if infotext is not None:
            chunks.add_text("parameters", infotext)
        image.save(file, "PNG", pnginfo=chunks, compress_level=PNG_LEVEL)
    elif file_format in ("jpg", "jpeg", "webp"):
        exif = Image.Exif()
        exif.get_ifd(EXIF_IFD)[USER_COMMENT] = encode_user_comment(infotext or "")
        pillow_format = "JPEG"
        if file_format == "webp":
            pillow_format = "WEBP"
        image.convert("RGB").save(file, pillow_format, exif=exif.tobytes(), quality=quality)
    else:
        raise HTTPException(500, "Invalid image format")
    return base64.b64encode(file.getvalue()).decode("ascii")
