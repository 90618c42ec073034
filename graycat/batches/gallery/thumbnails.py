"""Thumbnails of a batch's images. Each is created once and stored in the batch's folder."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from graycat.batches.errors import OutputUnavailable
from graycat.batches.output import Output

#: The longest side, in pixels. A browser shows it at half the size on a high-density screen.
MAX_SIDE = 448
CONTENT_TYPE = "image/webp"
#: What engines make. Pillow reads much more, by programs of which some run what a file says.
FORMATS = ("PNG", "JPEG", "WEBP")


def thumbnail_file(sha256: str) -> str:
    """Return the name of the thumbnail's file for an image with this SHA-256. An image made anew has another one."""
    return f"gallery/{sha256[:32]}.webp"


def load_or_create_thumbnail(output: Output, file: str, sha256: str) -> bytes | None:
    """Return the thumbnail of an image; create it if necessary. None if the image is missing or damaged.

    Takes some milliseconds of CPU time. Raises OutputUnavailable.
    """
    name = thumbnail_file(sha256)
    stored = output.read(name)
    if stored is not None:
        return stored
    image = output.read(file)
    if image is None:
        return None

    thumbnail = shrink(image)
    if thumbnail is not None:
        # If it cannot be stored, it is created again next time.
        with suppress(OutputUnavailable):
            output.write(name, thumbnail)
    return thumbnail


def shrink(data: bytes) -> bytes | None:
    """Return an image as a small WebP; None if the data is not an image."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            # Lets Pillow decode a JPEG at a lower resolution, which is faster.
            image.draft("RGB", (MAX_SIDE * 2, MAX_SIDE * 2))
            image.thumbnail((MAX_SIDE, MAX_SIDE))
            small = image.convert("RGBA" if image.has_transparency_data else "RGB")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        return None
    file = BytesIO()
    small.save(file, "WEBP", quality=80, method=4)
    return file.getvalue()
