from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from graycat.engines.placeholder import bodies, extras
from graycat.engines.placeholder.errors import OutOfMemoryError
from graycat.engines.placeholder.schema import model

RED = Image.new("RGB", (20, 10), "red")


def fields(**given: Any) -> dict[str, Any]:
    body: dict[str, Any] = model(bodies.EXTRA_SINGLE)(given)
    return body


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({"upscaling_resize": 3}, (60, 30)),
        ({"upscaling_resize": 0.01}, (1, 1)),
        ({"resize_mode": 1, "upscaling_resize_w": 30, "upscaling_resize_h": 30}, (30, 30)),
        ({"resize_mode": 1, "upscaling_resize_w": 30, "upscaling_resize_h": 30, "upscaling_crop": False}, (60, 30)),
    ],
)
def test_sizes(given: dict[str, Any], size: tuple[int, int]) -> None:
    image, text = extras.upscale(RED, fields(upscaler_1="Lanczos", **given))
    assert image.size == size
    assert "Postprocess upscaler: Lanczos" in text


def test_without_an_upscaler_nothing_happens() -> None:
    assert extras.upscale(RED, fields()) == (RED, "")


def test_two_upscalers_are_mixed() -> None:
    ramp = Image.linear_gradient("L").resize((16, 16))
    mixed = {"upscaler_2": "Nearest", "extras_upscaler_2_visibility": 0.5}
    one, two = (extras.upscale(ramp, fields(upscaler_1="Lanczos", **more))[0] for more in ({}, mixed))
    assert one.tobytes() != two.tobytes()


def test_an_unknown_upscaler_is_refused() -> None:
    extras.check_upscalers(fields(upscaler_1="Lanczos", upscaler_2=""))
    with pytest.raises(AssertionError, match="ESRGAN"):
        extras.check_upscalers(fields(upscaler_2="ESRGAN"))


@pytest.mark.parametrize("given", [{"upscaling_resize": 1e300}, {"resize_mode": 1, "upscaling_resize_w": 10**9}])
def test_a_huge_result_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(OutOfMemoryError):
        extras.upscale(RED, fields(upscaler_1="Nearest", **given))
