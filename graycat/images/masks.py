"""A mask of another size than its image, fitted to it.

AUTOMATIC1111 (1.10.1) scales it where the whole picture is made again. Where only the masked part is made
(``inpaint_full_res``, its default), it takes the mask's places for those of the image, and paints elsewhere without a
word. Other engines refuse or cut it. So graycat scales it, as A1111 does with ``resize_mode`` 0, for every engine.
"""

from __future__ import annotations

import io

from PIL import Image

from graycat.images.decoding import CheckedImage

#: Exif orientations (tag 0x0112) that swap the sides; whether an engine turns the image is its own business.
_ORIENTATION, _FIRST_TURNED = 0x0112, 5
#: Modes that are scaled as they are; any other but those of numbers (``I``, ``F``) is converted before.
_SCALED_MODES = ("L", "LA", "RGB", "RGBA")


def fit_mask(mask: CheckedImage, image: CheckedImage) -> CheckedImage:
    """Return a mask with the size of its image; the same object if it fits. Takes up to a second."""
    if (mask.width, mask.height) in _sizes_of(image):
        return mask
    with Image.open(io.BytesIO(mask.data), formats=(mask.format.upper(),)) as opened:
        if opened.mode.startswith(("I", "F")):
            return mask
        picture: Image.Image = opened
        if opened.mode not in _SCALED_MODES:
            picture = opened.convert("RGBA" if "transparency" in opened.info else "RGB")
        scaled = picture.resize((image.width, image.height), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    scaled.save(file, "PNG", compress_level=1)
    return CheckedImage(file.getvalue(), "png", image.width, image.height)


def _sizes_of(image: CheckedImage) -> list[tuple[int, int]]:
    """Return the size of an image, and that which it has once it is turned as its camera says."""
    sizes = [(image.width, image.height)]
    with Image.open(io.BytesIO(image.data), formats=(image.format.upper(),)) as opened:
        if opened.getexif().get(_ORIENTATION, 1) >= _FIRST_TURNED:
            sizes.append((image.height, image.width))
    return sizes
