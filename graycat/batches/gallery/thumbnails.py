"""Small pictures of a batch's images: each made once, and kept beside them."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from graycat.batches.errors import OutputUnavailable
from graycat.batches.output import Output

#: The longest side, in pixels; a browser shows it on screens of two pixels a point.
SIDE = 448
CONTENT_TYPE = "image/webp"


def name_of(sha256: str) -> str:
    """Return the file of the thumbnail of an image with this hash: an image that is made anew has another."""
    return f"gallery/{sha256[:32]}.webp"


def thumbnail(output: Output, file: str, sha256: str) -> bytes | None:
    """Return the thumbnail of an image, made where it is not there; None where the image is gone or damaged.

    Keeps a core busy for some milliseconds. Raises OutputUnavailable.
    """
    name = name_of(sha256)
    if (kept := output.read(name)) is not None:
        return kept
    data = output.read(file)
    made = shrunk(data) if data is not None else None
    if made is not None:
        # Where there is no room, it is made again.
        with suppress(OutputUnavailable):
            output.write(name, made)
    return made


def shrunk(data: bytes) -> bytes | None:
    """Return a picture as a small WebP; None for what is no picture."""
    try:
        with Image.open(BytesIO(data)) as image:
            # A JPEG is decoded no larger than it has to be.
            image.draft("RGB", (SIDE * 2, SIDE * 2))
            image.thumbnail((SIDE, SIDE))
            small = image.convert("RGBA" if image.has_transparency_data else "RGB")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        return None
    file = BytesIO()
    small.save(file, "WEBP", quality=80, method=4)
    return file.getvalue()
