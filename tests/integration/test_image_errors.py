"""Requests for images that are refused: before the engine sees anything, and in a shape that the client reads."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from PIL import Image

from tests.support.images import ADMIN, ANNA, QUICK, ImageStack, encoded, png
from tests.support.stack import Client

TXT2IMG, IMG2IMG, EXTRA = ("/sdapi/v1/txt2img", "/sdapi/v1/img2img", "/sdapi/v1/extra-single-image")
INVALID = "invalid_request_error"
#: In every prompt here; no log may hold it.
SECRET = "a-wish-that-nobody-may-read"

#: Path, what is wrong with the body, and the status and type of the answer.
REFUSED: dict[str, tuple[str, Any, int, str]] = {
    "a body that is no object": (TXT2IMG, [1], 400, INVALID),
    "a prompt that is a list": (TXT2IMG, {"prompt": [SECRET]}, 400, INVALID),
    "steps that are no number": (TXT2IMG, {"steps": "many"}, 400, INVALID),
    "no steps at all": (TXT2IMG, {"steps": 0}, 400, INVALID),
    "a size of NaN": (TXT2IMG, {"width": "nan"}, 400, INVALID),
    "no image to start from": (IMG2IMG, {"init_images": []}, 400, INVALID),
    "too many steps": (TXT2IMG, {"steps": 151}, 400, "too_much_work"),
    "too wide": (TXT2IMG, {"width": 8200}, 400, "too_much_work"),
    "too many pixels": (TXT2IMG, {"width": 4096, "height": 4096, "batch_size": 2}, 400, "too_much_work"),
    "too many images": (TXT2IMG, {"batch_size": 4, "n_iter": 5}, 400, "too_much_work"),
    "too large in the second pass": (TXT2IMG, {"enable_hr": True, "hr_scale": 16, "width": 2048}, 400, "too_much_work"),
    "enlarged too much": (
        EXTRA,
        {"image": png(), "upscaler_1": "Lanczos", "upscaling_resize": 17},
        400,
        "too_much_work",
    ),
    "a setting of the host": (TXT2IMG, {"override_settings": {"outdir_samples": "/"}}, 400, "setting_not_allowed"),
    "a format that fails": (TXT2IMG, {"override_settings": {"samples_format": "avif"}}, 400, "setting_not_allowed"),
    "a checkpoint that no engine has": (
        TXT2IMG,
        {"override_settings": {"sd_model_checkpoint": "dreams"}},
        404,
        "model_not_found",
    ),
    "a sampler that no engine has": (TXT2IMG, {"sampler_name": "Eular"}, 400, "unknown_name"),
    "a scheduler that no engine has": (TXT2IMG, {"scheduler": "Carras"}, 400, "unknown_name"),
    "an upscaler that no engine has": (EXTRA, {"image": png(), "upscaler_1": "a lens"}, 400, "unknown_name"),
    "a VAE that no engine has": (TXT2IMG, {"override_settings": {"sd_vae": "x.pt"}}, 400, "unknown_name"),
    "a fraction that is none": (TXT2IMG, {"cfg_scale": "much"}, 400, INVALID),
    "a seed that is none": (TXT2IMG, {"seed": "any"}, 400, INVALID),
    "styles that are no list": (TXT2IMG, {"styles": "none"}, 400, INVALID),
    "a script": (TXT2IMG, {"script_name": "X/Y/Z plot"}, 400, "script_not_allowed"),
    "a script beside": (TXT2IMG, {"alwayson_scripts": {"ControlNet": {"args": [True]}}}, 400, "script_not_allowed"),
    "parameters in a text": (TXT2IMG, {"negative_prompt": "<style:x>"}, 400, "prompt_parameter"),
    "fields by the back door": (TXT2IMG, {"infotext": "Steps: 9999"}, 400, INVALID),
    "an address for an image": (IMG2IMG, {"init_images": ["http://127.0.0.1/a.png"]}, 400, "invalid_image"),
    "a file for an image": (IMG2IMG, {"init_images": ["file:///etc/passwd"]}, 400, "invalid_image"),
    "no base64": (IMG2IMG, {"init_images": ["!!!!"]}, 400, "invalid_image"),
    "half an image": (IMG2IMG, {"init_images": [png()[:80]]}, 400, "invalid_image"),
    "a mask that is none": (IMG2IMG, {"init_images": [png()], "mask": "AAAA"}, 400, "invalid_image"),
    "an image that is too wide": (IMG2IMG, {"init_images": [png(9000, 1)]}, 413, "image_too_large"),
    "nothing to enlarge": (EXTRA, {"upscaler_1": "Lanczos"}, 400, INVALID),
    "nothing to look at": ("/sdapi/v1/interrogate", {}, 400, INVALID),
    "nothing to read": ("/sdapi/v1/png-info", {"image": ""}, 400, "invalid_image"),
}
CHANGES = ("options", "refresh-checkpoints", "refresh-vae", "refresh-loras", "refresh-embeddings", "unload-checkpoint")


@pytest.fixture(scope="module")
def anna(studio: ImageStack) -> Client:
    return studio.caller(ANNA)


def assert_webui_error(body: Any, type_: str) -> None:
    """Check that an error has the shape of the WebUI's own."""
    assert set(body) == {"error", "detail", "body", "errors", "type"}
    assert (body["error"], body["body"], body["errors"], body["type"]) == ("HTTPException", "", "", type_)
    assert isinstance(body["detail"], str)
    assert body["detail"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_request_never_reaches_the_engine(studio: ImageStack, anna: Client, name: str) -> None:
    path, wrong, status, type_ = REFUSED[name]
    asked = studio.asked()
    answer = anna.post(path, {"prompt": SECRET} | QUICK | wrong if isinstance(wrong, dict) else wrong)
    assert answer.status_code == status, answer.text
    assert_webui_error(answer.json(), type_)
    assert studio.asked() == asked
    assert not studio.live()


def test_without_a_token_nothing_is_told(studio: ImageStack) -> None:
    stranger = Client(studio.url)
    with stranger.session:
        for method, name in (("POST", "txt2img"), ("GET", "progress"), ("GET", "options"), ("POST", "interrupt")):
            answer = stranger.request(method, f"/sdapi/v1/{name}", json={"prompt": SECRET})
            assert answer.status_code == 401
            assert_webui_error(answer.json(), "authentication_error")
        answer = stranger.get("/sdapi/v1/samplers", auth=("any name", "a guess"))
        assert answer.status_code == 401


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_an_engine_is_for_admins(anna: Client, name: str) -> None:
    answer = anna.post(f"/sdapi/v1/{name}", {})
    assert answer.status_code == 403
    assert_webui_error(answer.json(), "permission_error")


def test_a_route_that_is_not_there_and_a_wrong_method_look_as_upstream(studio: ImageStack) -> None:
    admin, engine = studio.caller(ADMIN), studio.engine()
    for method, name in (("GET", "nothing"), ("GET", "txt2img"), ("POST", "samplers"), ("PUT", "options")):
        ours, theirs = (caller.request(method, f"/sdapi/v1/{name}") for caller in (admin, engine))
        assert (ours.status_code, ours.json()) == (theirs.status_code, theirs.json())
        assert ours.status_code in (404, 405)
    # What the gateway keeps closed.
    for name in ("server-kill", "server-restart", "create/embedding", "train/embedding"):
        assert admin.post(f"/sdapi/v1/{name}", {}).status_code == 404
    for name in ("cmd-flags", "memory", "extensions"):
        assert admin.get(f"/sdapi/v1/{name}").status_code == 404


def test_an_engine_s_own_error_comes_back_as_it_was(studio: ImageStack, anna: Client) -> None:
    engine = studio.engine()
    for body in ({"comments": "none"}, {"comments": [1]}):
        ours, theirs = (caller.post(TXT2IMG, QUICK | body) for caller in (anna, engine))
        assert (ours.status_code, ours.json()) == (theirs.status_code, theirs.json())
        assert ours.status_code == 422


def test_a_setting_that_is_open_is_overridden_for_one_request(studio: ImageStack, anna: Client) -> None:
    checkpoint = anna.get("/sdapi/v1/sd-models").json()[0]["model_name"]
    overrides = {"CLIP_stop_at_last_layers": 2, "sd_model_checkpoint": checkpoint}
    body = QUICK | {"override_settings": overrides, "override_settings_restore_afterwards": False}
    assert json.loads(anna.post(TXT2IMG, body).json()["info"])["clip_skip"] == 2
    assert json.loads(anna.post(TXT2IMG, QUICK).json()["info"])["clip_skip"] == 1


def test_an_image_may_be_larger_than_a_text(anna: Client) -> None:
    # Noise, which no encoder makes small: over 4 MB.
    noise = Image.frombytes("RGB", (1200, 1200), os.urandom(1200 * 1200 * 3))
    assert anna.post(IMG2IMG, QUICK | {"init_images": [encoded(noise)]}).status_code == 200
    too_long = anna.post(TXT2IMG, QUICK | {"negative_prompt": "x" * 500_000})
    assert too_long.status_code == 413
    assert_webui_error(too_long.json(), "prompt_too_large")


def test_no_log_holds_what_was_asked_for(studio: ImageStack, anna: Client) -> None:
    anna.post(TXT2IMG, QUICK | {"prompt": SECRET, "width": 100_000})
    anna.post("/generate-image", QUICK | {"prompt": SECRET})
    # The engine's own log is the test double's, which counts.
    assert SECRET not in studio.output
    assert json.dumps(png())[1:60] not in studio.output
