from __future__ import annotations

import base64
import copy
import io
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from graycat.errors import ImageTooLarge, InvalidImage, RequestError, ScriptNotAllowed, SettingNotAllowed, TooMuchWork
from graycat.images import ImageLimits
from graycat.sdparams import (
    check_extras,
    check_override_settings,
    check_request,
    check_scripts,
    generation,
    names,
    pixels,
)
from graycat.settings import Settings
from graycat.tokenerrors import LimitExceeded

LIMITS = ImageLimits.from_settings(Settings())
DEFAULT_OVERRIDES = names(Settings().sd_override_settings)


def image_text(side: int = 16) -> str:
    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


IMAGE = image_text()
DATA_ADDRESS = f"data:image/png;base64,{IMAGE}"

#: What the most used client sends for its defaults, and then some.
TYPICAL = {
    "prompt": "a grey cat",
    "negative_prompt": "",
    "steps": 20,
    "width": 512,
    "height": 768,
    "batch_size": 1,
    "n_iter": 1,
    "enable_hr": False,
    "hr_scale": 2,
    "hr_second_pass_steps": 0,
    "hr_resize_x": 0,
    "hr_resize_y": 0,
    "firstphase_width": 0,
    "styles": [],
    "sampler_name": "Euler a",
    "override_settings": {},
    "override_settings_restore_afterwards": True,
    "script_name": None,
    "script_args": [],
    "save_images": False,
    "send_images": True,
    "alwayson_scripts": {},
    "a_field_of_tomorrow": {"kept": [1, None]},
}


def test_a_usual_body_passes_as_it_is() -> None:
    assert generation(TYPICAL, Settings()) == TYPICAL


def test_a_checked_body_is_a_new_one() -> None:
    body = TYPICAL | {"init_images": [DATA_ADDRESS], "save_images": True, "force_task_id": "mine"}
    before = copy.deepcopy(body)
    generation(body, Settings())
    assert body == before


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"width": "512", "height": " 512 ", "steps": "20"},
        {"width": 512.0, "steps": 20.9, "batch_size": "4", "n_iter": 4},
        {"prompt": None, "negative_prompt": 5},
        {"width": 8192, "height": 2048},
        {"enable_hr": True, "hr_second_pass_steps": None},
        {"enable_hr": "true", "hr_scale": "2.5"},
        {"enable_hr": False, "hr_scale": None, "hr_resize_x": None, "hr_second_pass_steps": 10_000},
        {"enable_hr": "no", "hr_scale": 100},
        {"enable_hr": True, "width": 1024, "height": 1024, "hr_scale": 2, "batch_size": 4},
        {"enable_hr": True, "hr_resize_x": 2048, "hr_resize_y": 0, "hr_scale": 0},
        {"firstphase_width": 100_000},
        {"mask": "", "init_images": None, "override_settings": None, "infotext": "", "latent_mask": None},
        {"lora": [{"path": "style/ink.safetensors", "multiplier": 1.0}]},
    ],
    ids=str,
)
def test_what_the_engine_takes_passes(body: dict[str, Any]) -> None:
    assert check_request(body, LIMITS) == body | {"save_images": False}


@pytest.mark.parametrize("field", ["width", "height", "steps", "batch_size", "n_iter"])
@pytest.mark.parametrize(
    "value",
    [None, True, [], {}, "", "wide", "1e3", "0x200", 0, -1, "-8", "٠", float("nan"), float("inf"), -(10**30)],
    ids=repr,
)
def test_a_number_that_the_engine_would_choke_on_names_its_field(field: str, value: Any) -> None:
    with pytest.raises(RequestError, match=field) as caught:
        check_request({field: value}, LIMITS)
    assert caught.value.status == 400


@pytest.mark.parametrize("field", ["hr_scale", "hr_resize_x", "hr_resize_y"])
@pytest.mark.parametrize("value", [None, [], "big", -1, "nan"])
def test_an_enlargement_needs_its_numbers(field: str, value: Any) -> None:
    with pytest.raises(RequestError, match=field):
        check_request({"enable_hr": True, field: value}, LIMITS)


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
        check_request(body, LIMITS)


def test_a_field_that_is_absent_counts_as_the_engine_s_default() -> None:
    with pytest.raises(TooMuchWork, match="steps"):
        check_request({}, replace(LIMITS, max_steps=49))
    with pytest.raises(TooMuchWork, match="262144"):
        check_request({}, replace(LIMITS, max_pixels=512 * 512 - 1))
    assert check_request({"steps": 20, "width": 256}, replace(LIMITS, max_steps=49, max_pixels=512 * 512 - 1))


@pytest.mark.parametrize("field", ["prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt"])
@pytest.mark.parametrize("value", [[], ["a", "b"], {"text": "a"}], ids=str)
def test_a_prompt_is_one_text(field: str, value: Any) -> None:
    with pytest.raises(RequestError, match=field):
        check_request({field: value}, LIMITS)


@pytest.mark.parametrize("field", ["infotext", "firstpass_image", "latent_mask"])
def test_a_field_that_goes_past_the_checks_is_closed(field: str) -> None:
    with pytest.raises(RequestError, match=f"'{field}' is closed here"):
        check_request({field: "Steps: 10000, Size: 9999x9999"}, LIMITS)


@pytest.mark.parametrize("path", ["/etc/passwd", "../../x.safetensors", "a/../../b", "C:\\x", "\\\\host\\x", "~/x"])
def test_a_lora_lies_in_the_engine_s_folder(path: str) -> None:
    with pytest.raises(RequestError, match="lora"):
        check_request({"lora": [{"path": path}]}, LIMITS)


@pytest.mark.parametrize("value", [True, "yes", 1, None])
def test_an_engine_saves_nothing_to_its_own_disk(value: Any) -> None:
    assert check_request({"save_images": value}, LIMITS)["save_images"] is False


def test_a_caller_does_not_name_the_engine_s_task() -> None:
    assert "force_task_id" not in check_request({"force_task_id": "task(mine)"}, LIMITS)


def test_the_engine_gets_the_base64_that_was_checked() -> None:
    broken_up = "\n".join((IMAGE[:20], IMAGE[20:]))
    body = {"init_images": [DATA_ADDRESS, broken_up], "mask": DATA_ADDRESS, "extra_images": [DATA_ADDRESS]}
    checked = check_request(body, LIMITS)
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
        {"extra_images": ["file:///etc/passwd"]},
    ],
    ids=lambda body: str(body)[:40],
)
def test_an_image_field_holds_images(body: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        check_request(body, LIMITS)
    assert caught.value.status == 400


def test_an_image_that_is_sent_may_have_so_many_pixels() -> None:
    with pytest.raises(ImageTooLarge):
        check_request({"init_images": [IMAGE]}, replace(LIMITS, max_image_pixels=255))


# override_settings


@pytest.mark.parametrize(
    "overrides",
    [
        None,
        {},
        {
            "sd_model_checkpoint": "v1-5",
            "sd_vae": "Automatic",
            "CLIP_stop_at_last_layers": 2,
            "eta_noise_seed_delta": 0,
        },
        *({"samples_format": value} for value in ("png", "jpg", "jpeg", "webp", "PNG")),
    ],
    ids=str,
)
def test_settings_on_the_list_may_be_overridden(overrides: Any) -> None:
    body = {"override_settings": overrides}
    assert check_override_settings(body, DEFAULT_OVERRIDES) == body


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"outdir_samples": "/srv"}, "outdir_samples.* CLIP_stop_at_last_layers, eta"),
        ({"SD_VAE": "x"}, "SD_VAE"),
        ({"": "x"}, "''"),
        ({"sd_vae": "Automatic", "api_forbid_local_requests": False}, "api_forbid_local_requests"),
        ({"sd_vae": ["x"]}, "single value"),
        ({"samples_format": "avif"}, "png, jpg, jpeg, webp"),
        ({"samples_format": None}, "png"),
    ],
    ids=str,
)
def test_other_settings_may_not(overrides: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingNotAllowed, match=complaint):
        check_override_settings({"override_settings": overrides}, DEFAULT_OVERRIDES)


@pytest.mark.parametrize("overrides", [[], "sd_vae", 1, True])
def test_overrides_are_an_object(overrides: Any) -> None:
    with pytest.raises(RequestError, match="object"):
        check_override_settings({"override_settings": overrides}, DEFAULT_OVERRIDES)


@pytest.mark.parametrize("value", [False, None, "no", 0])
def test_settings_are_always_put_back(value: Any) -> None:
    body = {"override_settings": {}, "override_settings_restore_afterwards": value}
    assert check_override_settings(body, frozenset())["override_settings_restore_afterwards"] is True


# Scripts


@pytest.mark.parametrize("body", [{}, {"script_name": None}, {"script_name": "", "script_args": [1]}, TYPICAL])
def test_a_body_without_scripts_passes(body: dict[str, Any]) -> None:
    assert check_scripts(body, frozenset()) == body


@pytest.mark.parametrize(
    "body",
    [
        {"script_name": "x/y/z plot", "script_args": [1, "Steps"]},
        {"alwayson_scripts": {"ADETAILER": {"args": [{"image": IMAGE}, "see https://example.com"]}}},
    ],
    ids=lambda body: str(body)[:40],
)
def test_scripts_on_the_list_may_be_named_in_any_case(body: dict[str, Any]) -> None:
    assert check_scripts(body, names("X/Y/Z plot, ADetailer")) == body
    with pytest.raises(ScriptNotAllowed, match="these are: none"):
        check_scripts(body, frozenset())


@pytest.mark.parametrize("name", ["prompts from file or textbox", 7, ["ADetailer"], {"a": 1}, " "])
def test_other_scripts_may_not(name: Any) -> None:
    with pytest.raises(ScriptNotAllowed, match="ADetailer"):
        check_scripts({"script_name": name}, frozenset({"ADetailer"}))


@pytest.mark.parametrize("scripts", [None, [], "ADetailer"])
def test_scripts_that_are_always_on_are_an_object(scripts: Any) -> None:
    with pytest.raises(RequestError, match="alwayson_scripts"):
        check_scripts({"alwayson_scripts": scripts}, frozenset({"ADetailer"}))


def nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("address", ["http://10.0.0.1/", " https://example.com/cat.png", "FILE:///etc/passwd"])
def test_a_script_fetches_no_address_however_deep_it_lies(address: str) -> None:
    allowed = frozenset({"ControlNet"})
    for args in ([{"image": {"image": address}}], nested(address, 5000)):
        for body in ({"alwayson_scripts": {"ControlNet": {"args": args}}}, {"script_args": args}):
            with pytest.raises(InvalidImage, match="addresses"):
                check_scripts(body, allowed)


# Extras


def extras(**fields: Any) -> dict[str, Any]:
    return {"image": IMAGE, "upscaler_1": "R-ESRGAN 4x+", **fields}


@pytest.mark.parametrize(
    "body",
    [
        {"image": IMAGE},
        {"image": IMAGE, "upscaling_resize": 1000},
        extras(upscaling_resize=8),
        extras(resize_mode=1, upscaling_resize_w=4096, upscaling_resize_h="4096"),
        extras(upscaler_1="None", upscaler_2="", upscaling_resize=1000),
        {"image": IMAGE, "model": "clip"},
    ],
    ids=lambda body: str({name: value for name, value in body.items() if name != "image"}),
)
def test_an_upscaling_passes(body: dict[str, Any]) -> None:
    assert check_extras(body, LIMITS) == body


def test_an_empty_list_beside_an_image_stays_as_it_is() -> None:
    assert check_extras({"image": DATA_ADDRESS, "imageList": None}, LIMITS) == {"image": IMAGE, "imageList": None}


def test_a_list_of_images_keeps_their_names() -> None:
    body = {"imageList": [{"data": DATA_ADDRESS, "name": "image00001"}, {"data": IMAGE}], "upscaling_resize": 2}
    assert check_extras(body, LIMITS) == body | {"imageList": [{"data": IMAGE, "name": "image00001"}, {"data": IMAGE}]}


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
        check_extras(body, LIMITS)


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
        check_extras(body, LIMITS)
    assert caught.value.status == 400


def test_names_are_parted_by_commas() -> None:
    assert names(" a, b c,,") == {"a", "b c"}
    assert names("") == frozenset()


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
    assert pixels(body, LIMITS) == count


def test_a_caller_s_own_limit_on_pixels_is_looked_at_before_any_image_is() -> None:
    with pytest.raises(LimitExceeded, match="262143 pixels"):
        generation({"init_images": ["no image"]}, Settings(), 512 * 512 - 1)
    assert generation({}, Settings(), 512 * 512)


def test_a_caller_s_own_limit_holds_for_an_enlargement() -> None:
    body = {"image": image_text(16), "upscaler_1": "Lanczos", "upscaling_resize": 4}
    assert check_extras(body, LIMITS, 64 * 64)
    with pytest.raises(LimitExceeded):
        check_extras(body, LIMITS, 64 * 64 - 1)
