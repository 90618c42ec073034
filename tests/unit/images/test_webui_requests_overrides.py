"""Settings that a request overrides, and scripts that it names."""

from __future__ import annotations

from typing import Any

import pytest

from graycat.errors import RequestError
from graycat.images.errors import InvalidImage, ScriptNotAllowed, SettingNotAllowed
from graycat.images.webui_requests import check_override_settings, check_places, check_scripts, split_names
from graycat.settings import Settings
from tests.support.sdbodies import IMAGE, TYPICAL

DEFAULT_OVERRIDES = split_names(Settings().sd_override_settings)


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
        ({"sd_vae": "/etc/passwd"}, "not a path"),
        ({"sd_model_checkpoint": "../x.ckpt"}, "not a path"),
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
def test_overridden_settings_are_always_restored(value: Any) -> None:
    body = {"override_settings": {}, "override_settings_restore_afterwards": value}
    assert check_override_settings(body, frozenset())["override_settings_restore_afterwards"] is True


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
    assert check_scripts(body, split_names("X/Y/Z plot, ADetailer")) == body
    with pytest.raises(ScriptNotAllowed, match="allowed scripts: none"):
        check_scripts(body, frozenset())


@pytest.mark.parametrize("name", ["prompts from file or textbox", 7, ["ADetailer"], {"a": 1}, " ", [], {}, 0, False])
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


@pytest.mark.parametrize(
    "address",
    [
        "http://10.0.0.1/",
        " https://example.com/cat.png",
        "FILE:///etc/passwd",
        "/etc/passwd",
        "..\\..\\x.png",
        "C:\\x.png",
        "~/x.png",
    ],
)
def test_a_url_or_path_in_a_script_s_arguments_is_refused_at_any_depth(address: str) -> None:
    allowed = frozenset({"ControlNet"})
    for args in ([{"image": {"image": address}}], nested(address, 5000)):
        for body in ({"alwayson_scripts": {"ControlNet": {"args": args}}}, {"script_args": args}):
            with pytest.raises(InvalidImage, match="URLs"):
                check_scripts(body, allowed)


def test_names_are_parted_by_commas() -> None:
    assert split_names(" a, b c,,") == {"a", "b c"}
    assert split_names("") == frozenset()


@pytest.mark.parametrize(
    "field", ["controlnet_units", "hr_checkpoint_name", "hr_additional_modules", "styles", "refiner_checkpoint", "x"]
)
def test_no_field_holds_a_path_at_any_depth(field: str) -> None:
    for value in ("/etc/passwd", ["/etc/passwd"], nested({"image": "http://10.0.0.1/"}, 5000)):
        with pytest.raises(RequestError, match=field):
            check_places({field: value})
    check_places({field: "sub/model.safetensors", "prompt": "/imagine/a/cat", "negative_prompt": "~/x"})
