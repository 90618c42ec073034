"""The file format that a caller wants its images in, whatever the engine writes.

The wish travels in the body of the task, in a field of graycat's own. The worker takes it out before the engine is
called, and encodes the images anew before they are stored: so every way to an image (answer, address, poll) gives the
same file, and no web process spends its time on pixels. A worker of an earlier release leaves the images as they are.
"""

from __future__ import annotations

import io
import json
import logging
from dataclasses import dataclass
from typing import Any

from PIL import Image, features

from graycat.images import infotext
from graycat.images.replies import content_type

logger = logging.getLogger(__name__)

#: The field of a task's body.
FIELD = "graycat_output"
#: The formats, and Pillow's name for each.
FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "avif": "AVIF"}
#: The quality (0 to 100) of a lossy format, if the caller names none.
DEFAULT_QUALITY = 90


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """``format``: one of FORMATS; ``quality``: 0 to 100, None for the default. PNG has none."""

    format: str
    quality: int | None = None

    def to_field(self) -> dict[str, Any]:
        """Return the value of ``FIELD``."""
        return {"format": self.format, "quality": self.quality}

    @classmethod
    def from_field(cls, value: Any) -> OutputFormat | None:
        """Return the wish that a body's field holds; None if it holds none."""
        name = value.get("format") if isinstance(value, dict) else None
        if not isinstance(name, str) or name not in FORMATS:
            return None
        quality = value.get("quality")
        if isinstance(quality, bool) or not isinstance(quality, int) or not 0 <= quality <= 100:
            quality = None
        return cls(name, quality)


def available_formats() -> tuple[str, ...]:
    """Return the formats that this installation of Pillow writes; before 11.3 it has no AVIF."""
    return tuple(name for name in FORMATS if name in ("png", "jpeg") or features.check(name))


def split_output(body: bytes) -> tuple[bytes, OutputFormat | None]:
    """Return a task's body as the engine gets it, and the wish that it held."""
    if FIELD.encode() not in body:
        return body, None
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return body, None
    if not isinstance(value, dict) or FIELD not in value:
        return body, None
    wish = OutputFormat.from_field(value.pop(FIELD))
    return json.dumps(value).encode(), wish


def convert(image: bytes, wish: OutputFormat) -> bytes:
    """Return an image in the wanted format, with its infotext. What cannot be converted is returned as it is.

    Takes a second for a large AVIF.
    """
    if content_type(image) == f"image/{wish.format}" and wish.quality is None:
        return image
    try:
        return _encode(image, wish)
    except Exception:  # noqa: BLE001 (Pillow does not document what it raises on a box's bytes)
        logger.warning("an image was not converted", extra={"format": wish.format, "size": len(image)})
        return image


def _encode(image: bytes, wish: OutputFormat) -> bytes:
    file = io.BytesIO()
    with Image.open(io.BytesIO(image), formats=("PNG", "JPEG", "WEBP")) as opened:
        text, _ = infotext.read(opened)
        if wish.format == "png":
            opened.save(file, "PNG", pnginfo=infotext.to_png_chunks(text))
            return file.getvalue()
        exif = Image.Exif()
        if text:
            exif.get_ifd(infotext.EXIF_IFD)[infotext.USER_COMMENT] = infotext.encode_user_comment(text)
        picture: Image.Image = opened
        if wish.format == "jpeg" and opened.mode not in ("RGB", "L"):
            picture = opened.convert("RGB")
        quality = DEFAULT_QUALITY if wish.quality is None else wish.quality
        picture.save(file, FORMATS[wish.format], quality=quality, exif=exif.tobytes())
    return file.getvalue()
