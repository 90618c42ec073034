"""What an image-to-image request begins with: its images and its mask, brought to size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageFilter, ImageOps

from graycat.engines.placeholder import imagefiles

Size = tuple[int, int]

#: What the transparent parts of an image look like.
BACKGROUND = "#ffffff"
#: Grey from which on a mask is taken for white.
WHITE_FROM = 128


@dataclass(frozen=True, eq=False)
class Source:
    """What an image-to-image picture begins with, at its final size.

    ``mask``: 255 where it is painted over, None for everywhere. ``strength``: 0 to 1.
    """

    image: Image.Image
    mask: Image.Image | None
    strength: float

    def painted_over(self, painted: Image.Image) -> Image.Image:
        """Return it under a veil of the new picture, the thicker the stronger; something of it stays visible."""
        image = self.image if self.image.size == painted.size else self.image.resize(painted.size)
        veil = 0.15 + 0.55 * max(0.0, min(self.strength, 1.0))
        mixed = Image.blend(image, painted, veil)
        if self.mask is None:
            return mixed
        mask = self.mask if self.mask.size == painted.size else self.mask.resize(painted.size)
        return Image.composite(mixed, image, mask)


def resized(image: Image.Image, size: Size, resize_mode: int) -> Image.Image:
    """Return an image at that size. ``resize_mode``: 1 cuts off what is too much, 2 pads, any other stretches."""
    if resize_mode == 1:
        return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    if resize_mode == 2:
        return ImageOps.pad(image, size, Image.Resampling.LANCZOS)
    return image.resize(size, Image.Resampling.LANCZOS)


def flattened(image: Image.Image) -> Image.Image:
    """Return an image without transparency. Raises OSError where its file is broken."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layers = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), layers).convert("RGB")


def prepared_mask(image: Image.Image, fields: dict[str, Any], size: Size) -> Image.Image | None:
    """Return the mask as it is applied: 255 where it is painted; None for a blank one, which masks nothing."""
    alpha = image.convert("RGBA").getchannel("A")
    mask = image.convert("L") if alpha.getextrema() == (255, 255) else alpha
    if fields["mask_round"]:
        mask = mask.point(lambda grey: 255 if grey > WHITE_FROM else 0)
    if fields["inpainting_mask_invert"]:
        mask = ImageOps.invert(mask)
    if fields["inpaint_full_res"] and mask.getbbox() is None:
        return None
    blur = fields["mask_blur"]
    radius = (fields["mask_blur_x"] or 0, fields["mask_blur_y"] or 0) if blur is None else (blur, blur)
    mask = resized(mask, size, fields["resize_mode"])
    return mask.filter(ImageFilter.GaussianBlur(radius)) if any(radius) else mask


def from_fields(fields: dict[str, Any], mask: Image.Image | None, size: Size) -> list[Source]:
    """Return the sources of a request, one or as many as a batch has images; ``fields["batch_size"]`` is set to that.

    Raises RuntimeError for more images than fit a batch, and what ``imagefiles.decode`` raises.
    """
    encoded = fields["init_images"]
    if not encoded or len(encoded) > max(fields["batch_size"], 1):
        raise RuntimeError(f"bad number of images passed: {len(encoded)}; expecting {fields['batch_size']} or less")
    images = [flattened(imagefiles.decode(image)) for image in encoded]
    if len(images) > 1:
        fields["batch_size"] = len(images)
    prepared = prepared_mask(mask, fields, size) if mask is not None else None
    mode, strength = fields["resize_mode"], fields["denoising_strength"]
    return [Source(resized(image, size, mode), prepared, strength) for image in images]
