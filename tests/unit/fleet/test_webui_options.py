from __future__ import annotations

from typing import Any

import pytest

from graycat.errors import RequestError, UnsupportedParameter
from graycat.fleet.webui_options import check_options
from graycat.images.errors import UnknownName

OPTIONS: dict[str, Any] = {
    "sd_model_checkpoint": "dreams.safetensors [0123456789]", "samples_format": "png", "jpeg_quality": 80.0,
    "samples_save": True, "hide_samplers": [], "upscaler_for_img2img": None, "font": {}, "civitai_api_key": "",
}  # fmt: skip
MODELS = [{"title": "dreams.safetensors [0123456789]", "model_name": "dreams"}]
FLEET = {"a": {"options": OPTIONS, "sd-models": MODELS}}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"no such setting": 1}, UnsupportedParameter, "^'no such setting': no image engine has this setting; GET"),
        ({"jpeg_qualty": 1}, UnsupportedParameter, "did you mean 'jpeg_quality'"),
        ({"x" * 5000: 1}, UnsupportedParameter, "^.{1,200}$"),
        ({"sd_model_checkpoint": "cats"}, UnknownName, "^'sd_model_checkpoint': no image engine has the checkpoint"),
        ({"jpeg_quality": "best"}, RequestError, "^'jpeg_quality' must be a number"),
        ({"jpeg_quality": [80]}, RequestError, "^'jpeg_quality' must be a number"),
        ({"samples_save": "maybe"}, RequestError, "^'samples_save' must be true or false"),
        ({"samples_save": []}, RequestError, "^'samples_save' must be true or false"),
        ({"samples_format": {}}, RequestError, "^'samples_format' must be a string"),
        ({"sd_model_checkpoint": []}, RequestError, "^'sd_model_checkpoint' must be a string"),
        ({"hide_samplers": "LCM"}, RequestError, "^'hide_samplers' must be a list"),
        ({"font": 5}, RequestError, "^'font' must be an object"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_an_engine_would_answer_with_500_is_refused(
    changes: dict[str, Any], error: type[RequestError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        check_options(changes, FLEET)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"jpeg_quality": 77, "samples_save": False, "samples_format": "jpg", "hide_samplers": ["LCM"]},
        {"jpeg_quality": "77", "samples_save": "true", "samples_format": 5, "upscaler_for_img2img": "x"},
        {"samples_save": 1, "font": {"a": 1}, "jpeg_quality": None, "civitai_api_key": "s"},
        {"sd_model_checkpoint": "dreams"},
        {"sd_model_checkpoint": "dreams.safetensors [0123456789]"},
        {"sd_model_checkpoint": None},
    ],
    ids=str,
)
def test_what_an_engine_takes_passes(changes: dict[str, Any]) -> None:
    check_options(changes, FLEET)


def test_an_unknown_checkpoint_comes_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="the checkpoint 'draems'; did you mean 'dreams'"):
        check_options({"sd_model_checkpoint": "draems"}, FLEET)


def test_a_checkpoint_that_one_of_the_engines_lacks_changes_none() -> None:
    fleet = FLEET | {"b": {"options": OPTIONS, "sd-models": [{"title": "cats"}]}}
    with pytest.raises(RequestError, match="'sd_model_checkpoint': the change goes to every .* and b has no 'ream'"):
        check_options({"sd_model_checkpoint": "ream"}, fleet)


@pytest.mark.parametrize("catalog", [{}, {"options": {}, "sd-models": []}, {"options": [], "sd-models": {}}], ids=str)
def test_an_engine_that_reports_nothing_is_not_second_guessed(catalog: dict[str, Any]) -> None:
    check_options({"anything": 1, "sd_model_checkpoint": "cats"}, {"b": catalog})
    check_options({"anything": 1, "sd_model_checkpoint": "cats"}, FLEET | {"b": catalog})


def test_a_setting_of_one_engine_of_two_passes() -> None:
    check_options({"own": 5}, FLEET | {"b": {"options": OPTIONS | {"own": 1}, "sd-models": MODELS}})
