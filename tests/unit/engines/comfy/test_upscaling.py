from __future__ import annotations

from base64 import b64decode
from typing import Any

import pytest

from graycat.engines.comfy.catalog import ComfyCatalog
from graycat.engines.comfy.upscaling import SAVED, read_upscaling
from graycat.engines.comfy.wire import History, OutputFile
from graycat.errors import EngineProtocolError, RequestError, UnsupportedParameter
from graycat.settings import Settings
from tests.support.webuis import encoded, picture

INFO: dict[str, Any] = {"UpscaleModelLoader": {"input": {"required": {"model_name": [["old/4x_Sharp.pth"], {}]}}}}
CATALOG = ComfyCatalog.read(INFO, [])
SQUARE = {"resize_mode": 1, "upscaling_resize_w": 100, "upscaling_resize_h": 100}
IMAGE = encoded(picture("red", "PNG", (40, 20)))


def build(**fields: Any) -> dict[str, Any]:
    plan = read_upscaling({"image": IMAGE, **fields}, CATALOG, Settings())
    return plan.build({"image": "up.png"}, "graycat/1")


@pytest.mark.parametrize(
    ("fields", "size", "crop"),
    [
        ({}, (80, 40), "disabled"),
        ({"upscaling_resize": "1.5"}, (60, 30), "disabled"),
        (SQUARE, (100, 100), "center"),
        (SQUARE | {"upscaling_crop": False}, (200, 100), "disabled"),
    ],
)
@pytest.mark.parametrize(("upscaler", "method"), [("lanczos", "lanczos"), ("Nearest", "nearest-exact")])
def test_an_image_is_scaled_as_a_webui_does(
    fields: dict[str, Any], size: tuple[int, int], crop: str, upscaler: str, method: str
) -> None:
    workflow = build(upscaler_1=upscaler, **fields)
    expected = {"image": ["image", 0], "upscale_method": method, "width": size[0], "height": size[1], "crop": crop}
    assert workflow["scaled"]["inputs"] == expected
    assert workflow[SAVED]["inputs"] == {"images": ["scaled", 0], "filename_prefix": "graycat/1"}


@pytest.mark.parametrize("name", ["4x_Sharp", "4X_sharp.pth", "old/4x_Sharp.pth"])
def test_a_model_enlarges_and_the_size_is_that_which_was_asked_for(name: str) -> None:
    workflow = build(upscaler_1=name, upscaling_resize=3)
    assert workflow["upscaler"]["inputs"] == {"model_name": "old/4x_Sharp.pth"}
    assert workflow["enlarged"]["inputs"] == {"upscale_model": ["upscaler", 0], "image": ["image", 0]}
    assert (workflow["scaled"]["inputs"]["image"], workflow["scaled"]["inputs"]["width"]) == (["enlarged", 0], 120)


@pytest.mark.parametrize("fields", [{}, {"upscaler_1": "None"}, {"upscaler_1": " "}])
def test_without_an_upscaler_the_image_stays_as_it_is(fields: dict[str, Any]) -> None:
    assert set(build(**fields)) == {"image", SAVED}


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"upscaler_1": "nobody"}, RequestError, "upscaler_1"),
        ({"upscaler_2": "Lanczos"}, UnsupportedParameter, "upscaler_2"),
        ({"gfpgan_visibility": 0.5}, UnsupportedParameter, "gfpgan_visibility"),
        ({"upscaling_resiz": 2}, UnsupportedParameter, "upscaling_resiz"),
    ],
)
def test_what_the_template_cannot_do_is_refused(fields: dict[str, Any], error: type[RequestError], param: str) -> None:
    with pytest.raises(error) as refused:
        build(**fields)
    assert refused.value.param == param


def test_what_webuiapi_always_sends_passes() -> None:
    build(
        upscaler_1="None", upscaler_2="None", gfpgan_visibility=0, codeformer_visibility=0, codeformer_weight=0,
        extras_upscaler_2_visibility=0, upscale_first=False, show_extras_results=True, resize_mode=0,
    )  # fmt: skip


def test_an_answer_holds_the_image_and_one_without_an_image_is_none() -> None:
    plan = read_upscaling({"image": IMAGE}, CATALOG, Settings())
    file = OutputFile("a.png", "", "output")
    made = picture("blue")
    answer = plan.answer(History("success", {SAVED: [file]}, {}), lambda _: made)
    assert b64decode(answer["image"]) == made
    with pytest.raises(EngineProtocolError):
        plan.answer(History("success", {}, {}), lambda _: made)
    assert plan.answer(History("interrupted", {}, {}), lambda _: made)["image"] == ""
