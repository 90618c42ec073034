"""The lists and small calls of sdapi, held against what A1111 v1.10.1 answers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.webui_wire import WebUI

OPTIONAL_TEXT = (str, type(None))
OPTIONAL_LIST = (list, type(None))

ITEMS: dict[str, dict[str, Any]] = {
    "samplers": {"name": str, "aliases": list, "options": dict},
    "schedulers": {
        "name": str,
        "label": str,
        "aliases": OPTIONAL_LIST,
        "default_rho": float,
        "need_inner_model": bool,
    },
    "upscalers": {
        "name": str,
        "model_name": OPTIONAL_TEXT,
        "model_path": OPTIONAL_TEXT,
        "model_url": type(None),
        "scale": float,
    },
    "latent-upscale-modes": {"name": str},
    "sd-models": {
        "title": str,
        "model_name": str,
        "hash": OPTIONAL_TEXT,
        "sha256": OPTIONAL_TEXT,
        "filename": str,
        "config": OPTIONAL_TEXT,
    },
    "face-restorers": {"name": str, "cmd_dir": OPTIONAL_TEXT},
    "script-info": {"name": str, "is_alwayson": bool, "is_img2img": bool, "args": list},
}
EMPTY = ("sd-vae", "hypernetworks", "realesrgan-models", "prompt-styles", "loras", "extensions")


@pytest.mark.parametrize("name", ITEMS)
def test_the_items_of_a_list_have_all_their_keys(webui: WebUI, name: str) -> None:
    items = webui.get(name)
    assert items
    for item in items:
        assert list(item) == list(ITEMS[name])
        for key, kind in ITEMS[name].items():
            assert isinstance(item[key], kind), (key, item[key])


@pytest.mark.parametrize("name", EMPTY)
def test_what_would_need_files_is_an_empty_list(webui: WebUI, name: str) -> None:
    assert webui.get(name) == []


def test_the_only_checkpoint_is_called_placeholder(webui: WebUI) -> None:
    (model,) = webui.get("sd-models")
    assert model["model_name"] == "placeholder"
    assert model["title"] == f"placeholder [{model['hash']}]"
    assert model["sha256"].startswith(model["hash"])
    assert len(model["hash"]) == 10
    assert len(model["sha256"]) == 64


def test_samplers_are_upstreams_in_upstreams_order(webui: WebUI) -> None:
    samplers = {item["name"]: item for item in webui.get("samplers")}
    assert list(samplers) == [
        "DPM++ 2M", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 2S a", "DPM++ 3M SDE", "Euler a", "Euler",
        "LMS", "Heun", "DPM2", "DPM2 a", "DPM fast", "DPM adaptive", "Restart", "DDIM", "DDIM CFG++", "PLMS", "UniPC",
        "LCM",
    ]  # fmt: skip
    karras = {name for name, item in samplers.items() if item["options"].get("scheduler") == "karras"}
    assert karras == {"DPM++ 2M", "DPM++ SDE", "DPM++ 2S a", "DPM2", "DPM2 a", "Restart"}
    exponential = {name for name, item in samplers.items() if item["options"].get("scheduler") == "exponential"}
    assert exponential == {"DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE"}
    assert {value for item in samplers.values() for value in item["options"].values()} == {
        "karras",
        "exponential",
        "True",
    }


def test_schedulers_have_names_labels_and_rho(webui: WebUI) -> None:
    schedulers = webui.get("schedulers")
    assert [(item["name"], item["label"]) for item in schedulers] == [
        ("automatic", "Automatic"),
        ("uniform", "Uniform"),
        ("karras", "Karras"),
        ("exponential", "Exponential"),
        ("polyexponential", "Polyexponential"),
        ("sgm_uniform", "SGM Uniform"),
        ("kl_optimal", "KL Optimal"),
        ("align_your_steps", "Align Your Steps"),
        ("simple", "Simple"),
        ("normal", "Normal"),
        ("ddim", "DDIM"),
        ("beta", "Beta"),
    ]
    rho = {item["name"]: item["default_rho"] for item in schedulers if item["default_rho"] != -1.0}
    assert rho == {"karras": 7.0, "polyexponential": 1.0}
    assert [item["aliases"] for item in schedulers if item["aliases"]] == [["SGMUniform"]]


def test_latent_upscale_modes_are_upstreams(webui: WebUI) -> None:
    assert [item["name"] for item in webui.get("latent-upscale-modes")] == [
        "Latent",
        "Latent (antialiased)",
        "Latent (bicubic)",
        "Latent (bicubic antialiased)",
        "Latent (nearest)",
        "Latent (nearest-exact)",
    ]


def test_scripts_are_lower_case_and_name_no_extension_that_clients_look_for(webui: WebUI) -> None:
    scripts = webui.get("scripts")
    assert list(scripts) == ["txt2img", "img2img"]
    names = scripts["txt2img"] + scripts["img2img"]
    assert names == [name.lower() for name in names]
    assert not {"controlnet m2m", "adetailer", "animatediff"} & set(names)
    info = webui.get("script-info")
    assert [item["name"] for item in info if not item["is_img2img"]] == scripts["txt2img"]
    keys = ["label", "value", "minimum", "maximum", "step", "choices"]
    assert all(list(argument) == keys for item in info for argument in item["args"])


def test_embeddings_are_objects(webui: WebUI) -> None:
    assert webui.get("embeddings") == {"loaded": {}, "skipped": {}}


def test_flags_are_flat_and_tell_no_credentials(webui: WebUI) -> None:
    flags = webui.get("cmd-flags")
    assert flags["api"] is True
    assert not [name for name in flags if "auth" in name]
    assert not [value for value in flags.values() if isinstance(value, list | dict)]


def test_memory_is_in_bytes_and_there_is_no_gpu(webui: WebUI) -> None:
    memory = webui.get("memory")
    assert memory["cuda"] == {"error": "unavailable"}
    assert list(memory["ram"]) == ["free", "used", "total"]
    assert memory["ram"]["free"] + memory["ram"]["used"] == memory["ram"]["total"] > 2**28


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("interrupt", {}),
        ("skip", None),
        ("unload-checkpoint", {}),
        ("reload-checkpoint", {}),
        ("refresh-checkpoints", None),
        ("refresh-vae", None),
        ("refresh-embeddings", None),
        ("refresh-loras", None),
    ],
)
def test_control_calls_answer_with_next_to_nothing(webui: WebUI, name: str, answer: object) -> None:
    response = webui.call("POST", name)
    assert (response.status_code, response.json()) == (200, answer)
    assert response.headers["Content-Type"] == "application/json"


def test_ping_is_answered(webui: WebUI) -> None:
    assert webui.get("/internal/ping") == {}


@pytest.mark.parametrize("name", ["server-kill", "server-restart", "server-stop"])
def test_nobody_can_stop_it_over_the_api(webui: WebUI, name: str) -> None:
    assert webui.call("POST", name).status_code == 404
