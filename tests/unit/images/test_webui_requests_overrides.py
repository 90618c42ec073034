"""Settings that a request overrides, and fields that hold paths."""

from __future__ import annotations

from typing import Any

import pytest

from graycat.errors import RequestError
from graycat.images.errors import SettingNotAllowed
from graycat.images.webui_requests import check_override_settings, check_places, split_names
from graycat.settings import Settings

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


def nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


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
