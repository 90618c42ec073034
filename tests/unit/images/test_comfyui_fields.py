from __future__ import annotations

from typing import Any

import pytest

from graycat.errors import UnsupportedParameter
from graycat.images.comfyui_fields import check_call, check_fields, check_request
from graycat.images.output import FIELD as OUTPUT_FIELD


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"hr_upscaler": "x", "enable_hr": True}, "hr_upscaler"),
        ({"refiner_checkpoint": "x"}, "refiner_checkpoint"),
        ({"override_settings": {"sd_hypernetwork": "x"}}, "override_settings.sd_hypernetwork"),
        ({"override_settings": {"samples_format": "webp"}}, "override_settings.samples_format"),
        ({"mask": "x"}, "mask"),
    ],
)
def test_the_field_is_named(body: dict[str, Any], path: str) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        check_fields(body, img2img=False)
    assert refused.value.param == path


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "init_images"),
        ({"init_images": ["a", "b"]}, "init_images"),
        ({"init_images": ["a"], "resize_mode": 2}, "resize_mode"),
        ({"init_images": ["a"], "mask": "x", "inpaint_full_res": True}, "inpaint_full_res"),
        ({"init_images": ["a"], "mask": "x", "inpainting_fill": 0.5}, "inpainting_fill"),
    ],
)
def test_fields_of_img2img_are_named(body: dict[str, Any], path: str) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        check_fields(body, img2img=True)
    assert refused.value.param == path


def test_what_changes_nothing_passes() -> None:
    check_fields({"inpainting_fill": 0, "inpaint_full_res": True, "init_images": ["a"]}, img2img=True)
    check_fields({"styles": [], "script_name": "None", "override_settings": {"sd_vae": "x"}}, img2img=False)


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_networks_that_only_a_webui_knows_are_refused(field: str) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        check_fields({field: "a <HYPERNET:x:1>"}, img2img=False)
    assert refused.value.param == field


def test_a_call_that_no_template_can_do_is_refused() -> None:
    check_call("img2img")
    with pytest.raises(UnsupportedParameter, match="extra-batch-images"):
        check_call("extra-batch-images")


def test_a_request_is_checked_by_its_call() -> None:
    check_request("extra-single-image", {"image": "x", "upscaler_2": "None"})
    check_request("txt2img", {"prompt": "x"})
    for call, field in (("extra-single-image", "prompt"), ("txt2img", "upscaling_resize")):
        with pytest.raises(UnsupportedParameter) as refused:
            check_request(call, {field: "x"})
        assert refused.value.param == field


def test_the_format_that_graycat_writes_itself_passes() -> None:
    check_fields({OUTPUT_FIELD: {"format": "webp"}}, img2img=False)


def test_a_field_that_is_misspelt_comes_with_the_one_that_is_meant() -> None:
    with pytest.raises(UnsupportedParameter, match="did you mean 'negative_prompt'"):
        check_fields({"negativ_prompt": "x"}, img2img=False)
    # A WebUI's own field is not misspelt.
    with pytest.raises(UnsupportedParameter, match="leave it out"):
        check_fields({"restore_faces": True}, img2img=False)
