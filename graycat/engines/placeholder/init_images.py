"""The init images and the mask of an image-to-image request, resized to the size of its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageFilter, ImageOps

from graycat.engines.placeholder import imagefiles
from graycat.engines.placeholder.imagefiles import Size

#: The colour of an image's transparent parts.
BACKGROUND = "#ffffff"
#: Pixels of a mask that are lighter than this grey count as white.
WHITE_THRESHOLD = 128


@dataclass(frozen=True, eq=False)
class InitImage:
    """An image that the result begins with, at its final size.

    ``mask``: 255 in the pixels that are painted over; None for all. ``strength``: 0 to 1.
    """

    image: Image.Image
    mask: Image.Image | None
    strength: float

    def blend(self, picture: Image.Image) -> Image.Image:
        """Return the image mixed with a new picture; a higher strength shows more of the picture, but never all."""
        image = _fit(self.image, picture.size)
        opacity = 0.15 + 0.55 * max(0.0, min(self.strength, 1.0))
        mixed = Image.blend(image, picture, opacity)
        if self.mask is None:
            return mixed
        return Image.composite(mixed, image, _fit(self.mask, picture.size))


def _fit(image: Image.Image, size: Size) -> Image.Image:
    if image.size == size:
        return image
    return image.resize(size)


def resize(image: Image.Image, size: Size, resize_mode: int) -> Image.Image:
    """Return an image at that size. ``resize_mode``: 1 crops, 2 pads, any other stretches."""
    if resize_mode == 1:
        return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    if resize_mode == 2:
        return ImageOps.pad(image, size, Image.Resampling.LANCZOS)
    return image.resize(size, Image.Resampling.LANCZOS)


def flatten(image: Image.Image) -> Image.Image:
    """Return an image without transparency. Raises OSError if its file is broken."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layers = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), layers).convert("RGB")


def prepare_mask(image: Image.Image, fields: dict[str, Any], size: Size) -> Image.Image | None:
    """Return the mask to apply: 255 in the pixels that are painted over. None for a blank one, which has no effect."""
    mask = image.convert("RGBA").getchannel("A")
    is_opaque = mask.getextrema() == (255, 255)
    if is_opaque:
        mask = image.convert("L")
    if fields["mask_round"]:
        mask = mask.point(_round_grey)
    if fields["inpainting_mask_invert"]:
        mask = ImageOps.invert(mask)
    if fields["inpaint_full_res"] and mask.getbbox() is None:
        return None

    mask = resize(mask, size, fields["resize_mode"])
    radius = _blur_radius(fields)
    if radius == (0, 0):
        return mask
    return mask.filter(ImageFilter.GaussianBlur(radius))


def _round_grey(grey: int) -> int:
    if grey > WHITE_THRESHOLD:
        return 255
    return 0


def _blur_radius(fields: dict[str, Any]) -> tuple[float, float]:
    """Return how far the mask's edges are blurred, horizontally and vertically, in pixels."""
    blur = fields["mask_blur"]
    if blur is None:
        return fields["mask_blur_x"] or 0, fields["mask_blur_y"] or 0
    return blur, blur


def read_init_images(fields: dict[str, Any], mask: Image.Image | None, size: Size) -> list[InitImage]:
    """Return the init images of a request: one, or one for each image of a batch. Sets ``batch_size`` for several.

    Raises RuntimeError for more images than the batch has, and the errors of ``imagefiles.decode``.
    """
    encoded = fields["init_images"]
    if not encoded or len(encoded) > max(fields["batch_size"], 1):
        raise RuntimeError(f"bad number of images passed: {len(encoded)}; expecting {fields['batch_size']} or less")
    images = [flatten(imagefiles.decode(image)) for image in encoded]
    if len(images) > 1:
        fields["batch_size"] = len(images)
    prepared_mask = None
    if mask is not None:
        prepared_mask = prepare_mask(mask, fields, size)
    strength = fields["denoising_strength"]
    return [InitImage(resize(image, size, fields["resize_mode"]), prepared_mask, strength) for image in images]
