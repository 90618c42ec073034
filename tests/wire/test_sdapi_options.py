"""The settings: global ones, and those of one request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.webui_wire import WebUI, image_of

SMALL = {"width": 64, "height": 64, "steps": 1}


@pytest.fixture
def settings(webui: WebUI) -> Iterator[dict[str, Any]]:
    """Yield the settings; what a test changes goes back."""
    before = webui.get("options")
    yield before
    webui.post("options", {name: value for name, value in before.items() if not name.startswith("api_")})


def test_settings_are_flat_and_have_upstreams_defaults(settings: dict[str, Any], webui: WebUI) -> None:
    expected = {
        "sd_vae": "Automatic", "CLIP_stop_at_last_layers": 1.0, "samples_format": "png", "jpeg_quality": 80.0,
        "live_previews_enable": True, "show_progress_every_n_steps": 10.0, "show_progress_grid": True,
        "return_grid": True, "grid_save": True, "grid_only_if_multiple": True, "enable_pnginfo": True,
        "return_mask": False, "return_mask_composite": False, "samples_save": True, "save_incomplete_images": False,
        "api_enable_requests": True, "api_forbid_local_requests": True, "eta_noise_seed_delta": 0,
    }  # fmt: skip
    assert {name: settings[name] for name in expected} == expected
    # Whole numbers come back as floats, unless their default is 0.
    assert isinstance(settings["jpeg_quality"], float)
    assert isinstance(settings["eta_noise_seed_delta"], int)
    (model,) = webui.get("sd-models")
    assert (settings["sd_model_checkpoint"], settings["sd_checkpoint_hash"]) == (model["title"], model["sha256"])


@pytest.mark.usefixtures("settings")
def test_settings_are_kept(webui: WebUI) -> None:
    assert webui.post("options", jpeg_quality=50, sd_vae="None", eta_noise_seed_delta=31337) is None
    after = webui.get("options")
    assert (after["jpeg_quality"], after["sd_vae"], after["eta_noise_seed_delta"]) == (50.0, "None", 31337)


@pytest.mark.usefixtures("settings")
def test_an_unknown_setting_fails_midway(webui: WebUI) -> None:
    response = webui.call("POST", "options", {"jpeg_quality": 60, "no_such": 1, "sd_vae": "None"})
    expected = {"error": "KeyError", "detail": "", "body": "", "errors": "'no_such'"}
    assert (response.status_code, response.json()) == (500, expected)
    after = webui.get("options")
    assert (after["jpeg_quality"], after["sd_vae"]) == (60.0, "Automatic")


@pytest.mark.usefixtures("settings")
def test_a_value_of_the_wrong_type_breaks_reading_until_it_is_corrected(webui: WebUI) -> None:
    webui.post("options", jpeg_quality="high")
    broken = webui.call("GET", "options")
    assert (broken.status_code, broken.json()["error"]) == (500, "ValidationError")
    webui.post("options", jpeg_quality="70")
    assert webui.get("options")["jpeg_quality"] == 70.0


def test_restricted_settings_are_silently_not_set(settings: dict[str, Any], webui: WebUI) -> None:
    webui.post("options", api_forbid_local_requests=False, api_useragent="x")
    after = webui.get("options")
    assert after["api_forbid_local_requests"] is True
    assert after["api_useragent"] == settings["api_useragent"]


@pytest.mark.usefixtures("settings")
def test_a_checkpoint_goes_by_any_of_its_names(webui: WebUI) -> None:
    (model,) = webui.get("sd-models")
    for name in (model["title"], model["model_name"], model["hash"], model["sha256"]):
        webui.post("options", sd_model_checkpoint=name)
        webui.post("txt2img", SMALL | {"override_settings": {"sd_model_checkpoint": name}})
    response = webui.call("POST", "options", {"sd_model_checkpoint": "no such"})
    assert (response.status_code, response.json()["error"]) == (500, "RuntimeError")


@pytest.mark.parametrize(("body", "kind"), [([1], "type_error.dict"), (5, "type_error.dict")])
def test_settings_must_be_an_object(webui: WebUI, body: object, kind: str) -> None:
    response = webui.call("POST", "options", body)
    assert (response.status_code, response.json()["detail"][0]["type"]) == (422, kind)


def test_a_request_may_have_its_own_settings(webui: WebUI) -> None:
    body = SMALL | {"override_settings": {"CLIP_stop_at_last_layers": 2}}
    info = json.loads(webui.post("txt2img", body)["info"])
    assert info["clip_skip"] == 2
    assert "Clip skip: 2" in info["infotexts"][0]
    assert webui.get("options")["CLIP_stop_at_last_layers"] == 1.0


@pytest.mark.usefixtures("settings")
def test_they_stay_where_the_request_says_so(webui: WebUI) -> None:
    own = {"override_settings": {"CLIP_stop_at_last_layers": 3}, "override_settings_restore_afterwards": False}
    webui.post("txt2img", SMALL | own)
    assert webui.get("options")["CLIP_stop_at_last_layers"] == 3.0


def test_an_unknown_setting_of_a_request_is_a_key_error(webui: WebUI) -> None:
    response = webui.call("POST", "txt2img", SMALL | {"override_settings": {"no_such": 1}})
    assert (response.status_code, response.json()["error"], response.json()["errors"]) == (500, "KeyError", "'no_such'")
    assert webui.progress()["state"]["job_count"] == 0


def test_an_unknown_checkpoint_of_a_request_is_ignored_and_not_echoed(webui: WebUI) -> None:
    own = {"sd_model_checkpoint": "no such", "CLIP_stop_at_last_layers": 2}
    answer = webui.post("txt2img", SMALL | {"override_settings": own})
    assert answer["parameters"]["override_settings"] == {"CLIP_stop_at_last_layers": 2}
    assert json.loads(answer["info"])["sd_model_name"] == "placeholder"


@pytest.mark.parametrize(("kind", "name"), [("jpg", "JPEG"), ("JPEG", "JPEG"), ("webp", "WEBP"), ("png", "PNG")])
@pytest.mark.usefixtures("settings")
def test_the_format_of_images_is_a_setting(webui: WebUI, kind: str, name: str) -> None:
    webui.post("options", samples_format=kind)
    (encoded,) = webui.post("txt2img", SMALL)["images"]
    assert image_of(encoded).format == name


@pytest.mark.usefixtures("settings")
def test_an_unknown_format_fails_at_the_end(webui: WebUI) -> None:
    webui.post("options", samples_format="avif")
    response = webui.call("POST", "txt2img", SMALL)
    assert (response.status_code, response.json()["detail"]) == (500, "Invalid image format")
    assert webui.progress()["state"]["job_no"] == 1
    assert webui.post("txt2img", SMALL | {"send_images": False})["images"] == []


@pytest.mark.usefixtures("settings")
def test_texts_in_images_can_be_turned_off(webui: WebUI) -> None:
    webui.post("options", enable_pnginfo=False)
    answer = webui.post("txt2img", SMALL)
    assert image_of(answer["images"][0]).info == {}
    assert json.loads(answer["info"])["infotexts"][0]
