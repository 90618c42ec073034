"""Upscaling: the one function of the ``extra-*`` routes that needs no weights, so it is implemented."""

from __future__ import annotations

from typing import Any

from PIL import Image, ImageOps

from graycat.engines.placeholder import catalog
from graycat.engines.placeholder.imagefiles import Size, check_pixels

_FILTERS = {"Lanczos": Image.Resampling.LANCZOS, "Nearest": Image.Resampling.NEAREST}


def check_upscalers(fields: dict[str, Any]) -> None:
    """Raise AssertionError for an unknown upscaler."""
    for name in (fields["upscaler_1"], fields["upscaler_2"]):
        if name and name not in catalog.UPSCALERS:
            raise AssertionError(f"could not find upscaler named {name}")


def upscale(image: Image.Image, fields: dict[str, Any]) -> tuple[Image.Image, str]:
    """Return an upscaled image, and a list of what was done to it, formatted like an infotext.

    Raises OutOfMemoryError if the result would be too large.
    """
    image = image.convert("RGB")
    first, second = fields["upscaler_1"], fields["upscaler_2"]
    if first not in _FILTERS:
        return image, ""
    size = _scale(image.size, fields)
    check_pixels(*size)
    upscaled = image.resize(size, _FILTERS[first])
    pairs = {"Postprocess upscale by": f"{size[0] / image.width:g}", "Postprocess upscaler": first}
    visibility = fields["extras_upscaler_2_visibility"]
    if second in _FILTERS and visibility > 0:
        upscaled = Image.blend(upscaled, image.resize(size, _FILTERS[second]), visibility)
        pairs["Postprocess upscaler 2"] = second
    if fields["resize_mode"] == 1:
        target = (fields["upscaling_resize_w"], fields["upscaling_resize_h"])
        pairs["Postprocess upscale to"] = f"{target[0]}x{target[1]}"
        if fields["upscaling_crop"]:
            upscaled = ImageOps.fit(upscaled, target, _FILTERS[first])
    return upscaled, ", ".join(f"{key}: {value}" for key, value in pairs.items())


def _scale(size: Size, fields: dict[str, Any]) -> Size:
    """Return the size after upscaling: by the factor, or the smallest size that covers the target.

    If the result is not cropped, it may be larger than the target.
    """
    factor = fields["upscaling_resize"]
    if fields["resize_mode"] == 1:
        target = (fields["upscaling_resize_w"], fields["upscaling_resize_h"])
        factor = max(target[0] / size[0], target[1] / size[1])
    width, height = size[0] * factor, size[1] * factor
    # Checked before rounding: the factor may be any float.
    check_pixels(int(min(width, 1e9)), int(min(height, 1e9)))
    return max(1, round(width)), max(1, round(height))
