"""Requests for images as other programs send them, field by field as their public sources say.

Each row names its program and its version. It sends what the program sends if nobody has changed its settings.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from tests.support.images import ANNA, ImageStack, Picture, png
from tests.support.stack import REQUEST_S

SILLYTAVERN = "SillyTavern 1.12.6"
OPEN_WEBUI = "Open WebUI, September 2026"
WEBUIAPI = "webuiapi 0.9.17"
NPM = "npm stable-diffusion-api 0.0.7"

SIZE: dict[str, Any] = {"width": 64, "height": 64, "steps": 2}
#: What webuiapi and npm's package send in every generation.
_WEBUIAPI: dict[str, Any] = {
    "enable_hr": False,
    "hr_scale": 2,
    "hr_upscaler": "Latent",
    "hr_second_pass_steps": 0,
    "hr_resize_x": 0,
    "hr_resize_y": 0,
    "denoising_strength": 0.7,
    "firstphase_width": 0,
    "firstphase_height": 0,
    "styles": [],
    "seed": -1,
    "subseed": -1,
    "subseed_strength": 0.0,
    "seed_resize_from_h": 0,
    "seed_resize_from_w": 0,
    "batch_size": 1,
    "n_iter": 1,
    "cfg_scale": 7.0,
    "restore_faces": False,
    "tiling": False,
    "eta": 1.0,
    "do_not_save_samples": False,
    "do_not_save_grid": False,
    "negative_prompt": "",
    "s_churn": 0,
    "s_tmax": 0,
    "s_tmin": 0,
    "s_noise": 1,
    "override_settings": {},
    "override_settings_restore_afterwards": True,
    "script_args": [],
    "script_name": None,
    "send_images": True,
    "save_images": False,
    "sampler_name": "Euler a",
}
#: Generations: the program, and its body.
GENERATIONS: dict[str, dict[str, Any]] = {
    f"{SILLYTAVERN}: a picture of a chat": {
        # Of its own server, which sends on all that its page has sent.
        "url": "http://localhost:7860",
        "auth": "user:password",
        "negative_prompt": "rain",
        "sampler_name": "DPM++ 2M",
        "scheduler": "karras",
        "cfg_scale": 7,
        "restore_faces": False,
        "enable_hr": False,
        "hr_upscaler": "Latent",
        "hr_scale": 1.0,
        "denoising_strength": 0.7,
        "hr_second_pass_steps": 0,
        "override_settings": {"CLIP_stop_at_last_layers": 1},
        "clip_skip": 1,
        "override_settings_restore_afterwards": True,
        "save_images": True,
        "send_images": True,
        "do_not_save_grid": False,
        "do_not_save_samples": False,
    },
    f"{SILLYTAVERN}: with a VAE and a seed": {
        "url": "http://127.0.0.1:7860",
        "auth": "",
        "seed": 7,
        "enable_hr": True,
        "hr_scale": 1.5,
        "hr_upscaler": "Latent",
        "denoising_strength": 0.5,
        "hr_second_pass_steps": 2,
        "override_settings": {"CLIP_stop_at_last_layers": 2, "sd_vae": "Automatic"},
    },
    f"{OPEN_WEBUI}: a picture of a chat": {"batch_size": 1, "negative_prompt": ""},
    f"{OPEN_WEBUI}: with an administrator's parameters": {
        "batch_size": 2,
        "cfg_scale": 5,
        "sampler_name": "Euler a",
        "scheduler": "Karras",
    },
    f"{WEBUIAPI}: as it is": _WEBUIAPI | {"scheduler": "automatic", "sampler_index": "Euler a", "alwayson_scripts": {}},
    f"{WEBUIAPI}: with extensions that it found": _WEBUIAPI
    | {
        "alwayson_scripts": {
            "ControlNet": {"args": []},
            "ADetailer": {"args": [False]},
            "animatediff": {"args": [False]},
        },
    },
    f"{NPM}: as it is": _WEBUIAPI
    | {"alwayson_scripts": {"ControlNet": {"args": []}}, "use_deprecated_controlnet": False},
}
#: What programs read before that: the program, and the paths.
READS = {
    SILLYTAVERN: (
        *("options", "upscalers", "latent-upscale-modes", "sd-vae", "samplers", "schedulers", "sd-models", "progress"),
    ),
    OPEN_WEBUI: ("options", "sd-models"),
    WEBUIAPI: ("scripts", "options", "samplers", "sd-models", "progress"),
}
#: Requests in OpenAI's form: the program, and its body.
OPENAI: dict[str, dict[str, Any]] = {
    f"{OPEN_WEBUI}: a picture": {"model": "dall-e-2", "n": 1, "size": "64x64", "response_format": "b64_json"},
    f"{OPEN_WEBUI}: a model that answers base64 alone": {"model": "gpt-image-1", "n": 1, "size": "64x64"},
}


@pytest.fixture
def login(studio: ImageStack) -> tuple[str, str]:
    """Return user and password, as programs of the WebUI send them."""
    return "user", studio.tokens[ANNA]


@pytest.mark.parametrize("row", GENERATIONS)
def test_a_generation_of_another_program_is_made(studio: ImageStack, login: tuple[str, str], row: str) -> None:
    body = {"prompt": row} | SIZE | GENERATIONS[row]
    answer = requests.post(f"{studio.url}/sdapi/v1/txt2img", json=body, auth=login, timeout=REQUEST_S)
    assert answer.status_code == 200, answer.text
    images = answer.json()["images"]
    assert len(images) == body.get("batch_size", 1)
    assert Picture.of(images[0]).prompt == row
    # Nothing of what a program keeps for itself reaches an engine.
    assert not {"url", "auth"} & answer.json()["parameters"].keys()
    assert json.loads(answer.json()["info"])["prompt"] == row


@pytest.mark.parametrize("program", READS)
def test_what_a_program_asks_first_is_answered(studio: ImageStack, login: tuple[str, str], program: str) -> None:
    for path in READS[program]:
        answer = requests.get(f"{studio.url}/sdapi/v1/{path}", auth=login, timeout=REQUEST_S)
        assert answer.status_code == 200, (path, answer.text)
        assert isinstance(answer.json(), dict if path in ("options", "progress", "scripts") else list)


@pytest.mark.parametrize("row", OPENAI)
def test_an_openai_request_of_another_program_is_answered(studio: ImageStack, row: str) -> None:
    headers = {"Authorization": f"Bearer {studio.tokens[ANNA]}"}
    url = f"{studio.url}/v1/images/generations"
    answer = requests.post(url, json={"prompt": row} | OPENAI[row], headers=headers, timeout=REQUEST_S)
    assert answer.status_code == 200, answer.text
    assert Picture.of(answer.json()["data"][0]["b64_json"]).prompt == row


@pytest.mark.parametrize("name", ["image", "image[]"])
def test_an_edit_of_open_webui_is_made(studio: ImageStack, name: str) -> None:
    headers = {"Authorization": f"Bearer {studio.tokens[ANNA]}"}
    form = {"model": "gpt-image-1", "prompt": "a hat", "n": "1", "size": "64x64", "response_format": "b64_json"}
    files = {name: ("a.png", Picture.of(png()).data, "image/png")}
    url = f"{studio.url}/v1/images/edits"
    answer = requests.post(url, data=form, files=files, headers=headers, timeout=REQUEST_S)
    assert answer.status_code == 200, answer.text
    assert Picture.of(answer.json()["data"][0]["b64_json"]).prompt == "a hat"


def test_a_model_is_set_by_those_who_may(studio: ImageStack) -> None:
    """SillyTavern posts the checkpoint alone, Open WebUI all options with another checkpoint; both then read again."""
    url = f"{studio.url}/sdapi/v1/options"
    admin = ("user", studio.tokens["root"])
    options = requests.get(url, auth=admin, timeout=REQUEST_S).json()
    title = requests.get(f"{studio.url}/sdapi/v1/sd-models", auth=admin, timeout=REQUEST_S).json()[0]["title"]
    for body in ({"sd_model_checkpoint": title}, options | {"sd_model_checkpoint": title}):
        answer = requests.post(url, json=body, auth=admin, timeout=REQUEST_S)
        assert answer.status_code == 200, answer.text
    refused = requests.post(
        url, json={"sd_model_checkpoint": title}, auth=("user", studio.tokens[ANNA]), timeout=REQUEST_S
    )
    assert refused.status_code == 403
    assert requests.get(url, auth=admin, timeout=REQUEST_S).json()["sd_model_checkpoint"] == title
