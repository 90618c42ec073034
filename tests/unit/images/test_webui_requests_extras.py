"""Upscaling: the images that are sent, and how large they may become."""

from __future__ import annotations

from typing import Any

import pytest

from graycat.errors import LimitExceeded, RequestError
from graycat.images.errors import TooMuchWork
from graycat.images.webui_requests import check_extras
from tests.support.sdbodies import DATA_ADDRESS, IMAGE, SETTINGS, image_text


def extras(**fields: Any) -> dict[str, Any]:
    return {"image": IMAGE, "upscaler_1": "R-ESRGAN 4x+", **fields}


@pytest.mark.parametrize(
    "body",
    [
        {"image": IMAGE},
        {"image": IMAGE, "upscaling_resize": 1000},
        extras(upscaling_resize=8),
        extras(resize_mode=1, upscaling_resize_w=4096, upscaling_resize_h=4096),
        extras(upscaler_1="None", upscaler_2="", upscaling_resize=1000),
        {"image": IMAGE, "model": "clip"},
    ],
    ids=lambda body: str({name: value for name, value in body.items() if name != "image"}),
)
def test_an_upscaling_passes(body: dict[str, Any]) -> None:
    assert check_extras(body, SETTINGS) == body


def test_no_list_beside_an_image_is_no_list() -> None:
    assert check_extras({"image": DATA_ADDRESS, "imageList": None}, SETTINGS) == {"image": IMAGE}


def test_a_list_of_images_keeps_their_names() -> None:
    body = {"imageList": [{"data": DATA_ADDRESS, "name": "image00001"}, {"data": IMAGE}], "upscaling_resize": 2}
    assert check_extras(body, SETTINGS) == body | {
        "imageList": [{"data": IMAGE, "name": "image00001"}, {"data": IMAGE}]
    }


@pytest.mark.parametrize(
    "body",
    [
        extras(image=image_text(2048), upscaling_resize=2.01),
        extras(image=image_text(600), upscaling_resize=14),
        extras(upscaling_resize=17),
        extras(upscaler_1="None", upscaler_2="ESRGAN", image=image_text(2048), upscaling_resize=4),
        extras(resize_mode=1, upscaling_resize_w=4104, upscaling_resize_h=8),
        extras(resize_mode=1, upscaling_resize_w=8193),
        {"imageList": [{"data": image_text(1024)}] * 5, "upscaler_1": "Lanczos"},
        {"imageList": [{"data": IMAGE}] * 17},
    ],
    ids=range(8),
)
def test_an_upscaling_may_make_so_much(body: dict[str, Any]) -> None:
    with pytest.raises(TooMuchWork):
        check_extras(body, SETTINGS)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"imageList": None},
        {"imageList": []},
        {"imageList": IMAGE},
        {"imageList": [IMAGE]},
        {"imageList": [{"name": "a"}]},
        {"imageList": [{"data": "http://example.com/cat.png"}]},
        {"image": ""},
        {"image": None},
        {"image": "http://example.com/cat.png"},
        extras(upscaling_resize="big"),
        extras(upscaling_resize=0),
        extras(upscaling_resize=None),
        extras(resize_mode=2),
    ],
    ids=lambda body: str(body)[:40],
)
def test_what_no_upscaler_can_use_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        check_extras(body, SETTINGS)
    assert caught.value.status == 400


def test_a_caller_s_own_limit_holds_for_an_enlargement() -> None:
    body = {"image": image_text(16), "upscaler_1": "Lanczos", "upscaling_resize": 4}
    assert check_extras(body, SETTINGS, 64 * 64)
    with pytest.raises(LimitExceeded):
        check_extras(body, SETTINGS, 64 * 64 - 1)
