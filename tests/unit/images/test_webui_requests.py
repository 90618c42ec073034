"""Requests for images: what an engine would choke on, and what is too much."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import Any

import pytest

from graycat.errors import LimitExceeded, RequestError
from graycat.images.errors import ImageTooLarge, InvalidImage, TooMuchWork
from graycat.images.webui_requests import check_amount_of_work, check_extras, check_fields, check_generation
from graycat.settings import Settings
from tests.support.sdbodies import DATA_ADDRESS, IMAGE, SETTINGS, TYPICAL


def test_a_usual_body_passes_as_it_is() -> None:
    # A null stands for the engine's default, and some engines take none.
    given = {name: value for name, value in TYPICAL.items() if value is not None}
    assert check_generation(TYPICAL, Settings()) == given


def test_a_checked_body_is_a_new_one() -> None:
    body = TYPICAL | {"init_images": [DATA_ADDRESS], "save_images": True, "force_task_id": "mine"}
    before = copy.deepcopy(body)
    check_generation(body, Settings())
    assert body == before


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"width": 8192, "height": 2048},
        {"enable_hr": True, "denoising_strength": 0.5, "width": 1024, "height": 1024, "hr_scale": 2, "batch_size": 4},
        {"enable_hr": True, "denoising_strength": 0.5, "hr_resize_x": 2048, "hr_resize_y": 0, "hr_scale": 0},
        {"firstphase_width": 100_000},
        {"lora": [{"path": "style/ink.safetensors", "multiplier": 1.0}]},
    ],
    ids=str,
)
def test_what_the_engine_takes_passes(body: dict[str, Any]) -> None:
    assert check_fields(body, SETTINGS) == body | {"save_images": False}


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"width": "512", "height": " 512 ", "steps": "20"}, {"width": 512, "height": 512, "steps": 20}),
        ({"width": 512.0, "steps": 20.9, "n_iter": 4}, {"width": 512, "steps": 20, "n_iter": 4}),
        ({"prompt": None, "negative_prompt": 5, "seed": None, "width": None}, {"negative_prompt": "5"}),
        ({"enable_hr": True, "hr_second_pass_steps": None}, {"enable_hr": True, "denoising_strength": 0.7}),
        ({"enable_hr": "true", "hr_scale": "2.5"}, {"enable_hr": True, "hr_scale": 2.5, "denoising_strength": 0.7}),
        ({"enable_hr": "no", "hr_scale": 100, "hr_resize_x": None}, {"enable_hr": False, "hr_scale": 100}),
        ({"mask": "", "init_images": None, "override_settings": None}, {}),
        ({"seed": "4294967295", "subseed": -1.0}, {"seed": 4294967295, "subseed": -1}),
        ({"inpainting_mask_invert": True}, {"inpainting_mask_invert": 1}),
        ({"lora": [{"path": "a.gguf", "multiplier": "0.5"}]}, {"lora": [{"path": "a.gguf", "multiplier": 0.5}]}),
    ],
    ids=str,
)
def test_values_are_sent_in_the_types_that_every_engine_takes(body: dict[str, Any], sent: dict[str, Any]) -> None:
    checked = check_fields(body, SETTINGS)
    assert checked == sent | {"save_images": False}
    for name, value in sent.items():
        assert type(checked[name]) is type(value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("seed", "many"), ("seed", []), ("seed", True), ("seed", 2**63), ("seed", "9" * 5000), ("seed", 1e300)],
        *[("clip_skip", "two"), ("clip_skip", 2**31), ("clip_skip", {})],
        *[("cfg_scale", "Automatic"), ("cfg_scale", []), ("cfg_scale", False), ("cfg_scale", 1e39)],
        *[("enable_hr", "perhaps"), ("enable_hr", 2), ("enable_hr", [])],
        *[("sampler_name", []), ("sampler_name", {}), ("sampler_name", True)],
        *[("styles", "none"), ("styles", {}), ("styles", 5)],
        *[("lora", "ink"), ("lora", ["ink"]), ("lora", [{"path": 5}]), ("lora", [{"path": "a", "multiplier": "b"}])],
    ],
    ids=repr,
)
def test_a_value_on_which_an_engine_would_fail_is_refused(field: str, value: Any) -> None:
    with pytest.raises(RequestError, match=field) as caught:
        check_fields({field: value}, SETTINGS)
    assert caught.value.status == 400


@pytest.mark.parametrize("field", ["width", "height", "steps", "batch_size", "n_iter"])
@pytest.mark.parametrize(
    "value",
    [True, [], {}, "", "wide", "1e3", "0x200", 0, -1, "-8", "٠", float("nan"), float("inf"), -(10**30)],
    ids=repr,
)
def test_a_number_that_the_engine_would_choke_on_names_its_field(field: str, value: Any) -> None:
    with pytest.raises(RequestError, match=field) as caught:
        check_fields({field: value}, SETTINGS)
    assert caught.value.status == 400


@pytest.mark.parametrize("field", ["hr_second_pass_steps", "hr_steps"])
@pytest.mark.parametrize("value", [[], {}, "", False])
def test_the_steps_of_an_enlargement_are_a_number(field: str, value: Any) -> None:
    with pytest.raises(RequestError, match=field):
        check_fields({"enable_hr": True, field: value}, SETTINGS)


@pytest.mark.parametrize("field", ["hr_scale", "hr_resize_x", "hr_resize_y"])
@pytest.mark.parametrize("value", [[], "big", -1, "nan"])
def test_an_enlargement_needs_its_numbers(field: str, value: Any) -> None:
    with pytest.raises(RequestError, match=field):
        check_fields({"enable_hr": True, field: value}, SETTINGS)


@pytest.mark.parametrize(
    "body",
    [
        {"width": 8193},
        {"width": 10**30},
        {"width": "99999999999999999999"},
        {"width": 4096, "height": 4097},
        {"width": 2048, "height": 2048, "batch_size": 5},
        {"width": 2048, "height": 2048, "batch_size": 2, "n_iter": "3"},
        {"batch_size": 17},
        {"batch_size": 4, "n_iter": 5},
        {"steps": 151},
        {"enable_hr": True, "hr_second_pass_steps": 151},
        {"enable_hr": True, "hr_steps": "151"},
        {"enable_hr": True, "hr_scale": 17},
        {"enable_hr": True, "hr_scale": 9},
        {"enable_hr": 1, "width": 1024, "height": 1024, "hr_scale": 2, "batch_size": 5},
        {"enable_hr": "yes", "width": 2048, "height": 2048, "hr_scale": 2.1},
        {"enable_hr": True, "hr_resize_x": 4104, "hr_resize_y": 4096},
        # Cut to a strip, but not before it was a square.
        {"enable_hr": True, "hr_resize_x": 4104, "hr_resize_y": 8},
        {"enable_hr": True, "hr_resize_x": 0, "hr_resize_y": 4104},
        {"enable_hr": True, "width": 64, "height": 64, "firstphase_width": 4096, "firstphase_height": 4096},
        {"enable_hr": True, "firstphase_width": 8193},
        {"init_images": [IMAGE] * 17},
        {"extra_images": [IMAGE] * 17},
    ],
    ids=lambda body: str(body)[:60],
)
def test_a_request_may_ask_for_so_much(body: dict[str, Any]) -> None:
    with pytest.raises(TooMuchWork):
        check_fields(body, SETTINGS)


def test_a_field_that_is_absent_counts_as_the_engine_s_default() -> None:
    with pytest.raises(TooMuchWork, match="steps"):
        check_fields({}, replace(SETTINGS, max_steps=49))
    with pytest.raises(TooMuchWork, match="262144"):
        check_fields({}, replace(SETTINGS, max_pixels=512 * 512 - 1))
    assert check_fields({"steps": 20, "width": 256}, replace(SETTINGS, max_steps=49, max_pixels=512 * 512 - 1))


@pytest.mark.parametrize("field", ["prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt"])
@pytest.mark.parametrize("value", [[], ["a", "b"], {"text": "a"}], ids=str)
def test_a_prompt_is_one_text(field: str, value: Any) -> None:
    with pytest.raises(RequestError, match=field):
        check_fields({field: value}, SETTINGS)


@pytest.mark.parametrize("field", ["infotext", "firstpass_image", "latent_mask"])
def test_a_field_that_goes_past_the_checks_is_closed(field: str) -> None:
    with pytest.raises(RequestError, match=f"'{field}' is not accepted"):
        check_fields({field: "Steps: 10000, Size: 9999x9999"}, SETTINGS)


@pytest.mark.parametrize("path", ["/etc/passwd", "../../x.safetensors", "a/../../b", "C:\\x", "\\\\host\\x", "~/x"])
def test_a_lora_lies_in_the_engine_s_folder(path: str) -> None:
    with pytest.raises(RequestError, match="lora"):
        check_fields({"lora": [{"path": path}]}, SETTINGS)


@pytest.mark.parametrize("value", [True, "yes", 1, None])
def test_an_engine_saves_nothing_to_its_own_disk(value: Any) -> None:
    assert check_fields({"save_images": value}, SETTINGS)["save_images"] is False


def test_a_caller_does_not_name_the_engine_s_task() -> None:
    assert "force_task_id" not in check_fields({"force_task_id": "task(mine)"}, SETTINGS)


def test_the_engine_gets_the_base64_that_was_checked() -> None:
    broken_up = "\n".join((IMAGE[:20], IMAGE[20:]))
    body = {"init_images": [DATA_ADDRESS, broken_up], "mask": DATA_ADDRESS, "extra_images": [DATA_ADDRESS]}
    checked = check_fields(body, SETTINGS)
    assert (checked["init_images"], checked["mask"], checked["extra_images"]) == ([IMAGE, IMAGE], IMAGE, [IMAGE])


@pytest.mark.parametrize(
    "body",
    [
        {"init_images": IMAGE},
        {"init_images": []},
        {"init_images": {"0": IMAGE}},
        {"init_images": [IMAGE, None]},
        {"init_images": [IMAGE, "http://example.com/cat.png"]},
        {"init_images": [[IMAGE]]},
        {"mask": "https://example.com/mask.png"},
        {"mask": {"image": IMAGE}},
        {"mask": True},
        {"mask": False},
        {"mask": {}},
        {"mask": []},
        {"mask": 0},
        {"extra_images": ["file:///etc/passwd"]},
    ],
    ids=lambda body: str(body)[:40],
)
def test_an_image_field_holds_images(body: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        check_fields(body, SETTINGS)
    assert caught.value.status == 400


def test_an_image_that_is_sent_may_have_so_many_pixels() -> None:
    with pytest.raises(ImageTooLarge):
        check_fields({"init_images": [IMAGE]}, replace(SETTINGS, max_image_pixels=255))


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ({}, 512 * 512),
        ({"width": "256", "height": 128}, 256 * 128),
        ({"batch_size": 2, "n_iter": 3}, 6 * 512 * 512),
        ({"enable_hr": True, "hr_scale": 1.5}, 768 * 768),
    ],
)
def test_pixels_are_those_of_all_images_at_their_largest(body: dict[str, Any], count: int) -> None:
    assert check_amount_of_work(body, SETTINGS) == count


def test_the_token_s_pixel_limit_is_checked_before_any_image() -> None:
    with pytest.raises(LimitExceeded, match="262143 pixels"):
        check_generation({"init_images": ["no image"]}, Settings(), 512 * 512 - 1)
    assert check_generation({}, Settings(), 512 * 512)


@pytest.mark.parametrize("field", ["cfg_scale", "denoising_strength", "eta", "s_tmax", "refiner_switch_at"])
@pytest.mark.parametrize("value", ["inf", " -Infinity ", "nan", "1e999", float("inf")])
def test_a_fraction_is_finite(field: str, value: Any) -> None:
    with pytest.raises(RequestError, match=f"'{field}' must be a finite number"):
        check_fields({field: value}, SETTINGS)


def test_a_second_pass_has_a_strength() -> None:
    assert check_generation({"prompt": "a", "enable_hr": "true"}, SETTINGS)["denoising_strength"] == 0.7
    assert (
        check_generation({"prompt": "a", "enable_hr": True, "denoising_strength": 0}, SETTINGS)["denoising_strength"]
        == 0
    )
    assert "denoising_strength" not in check_generation({"prompt": "a", "enable_hr": False}, SETTINGS)


NO_IMAGES: list[Any] = [False, 0, [], {}, True, "x"]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        *(({"mask": value}, "mask") for value in NO_IMAGES),
        ({"init_images": [IMAGE, "x"]}, "init_images[1]"),
        ({"extra_images": [5]}, "extra_images[0]"),
    ],
)
def test_an_image_that_is_none_is_told_by_its_path(body: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidImage, match=re.escape(repr(path))):
        check_generation(body, SETTINGS)


def test_an_image_of_an_enlargement_is_told_by_its_path() -> None:
    for body, path in (({"image": 5}, "image"), ({"imageList": [{"data": IMAGE}, {}]}, "imageList[1].data")):
        with pytest.raises(InvalidImage, match=re.escape(repr(path))):
            check_extras(body, SETTINGS)
    checked = check_extras({"image": IMAGE, "upscaler_1": " ", "upscaler_2": "Lanczos"}, SETTINGS)
    assert ("upscaler_1" in checked, checked["upscaler_2"]) == (False, "Lanczos")
