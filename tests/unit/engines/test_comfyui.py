from __future__ import annotations

import json
from typing import Any

import pytest

from graycat.engines import webui
from graycat.engines.base import Health
from graycat.engines.client import Call
from graycat.engines.comfyui import ComfyEngine, build_comfyui
from graycat.engines.renders import RenderJob
from graycat.errors import SettingsError
from graycat.families import SD
from graycat.settings import Settings
from tests.support.servers import Answer, drop, http_server, reply

WELL = reply(200, {"system": {"comfyui_version": "0.24.0"}})
MODELS = {"CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [["one.safetensors", "two.ckpt"]]}}}}


@pytest.mark.parametrize(
    ("answer", "health"),
    [
        (WELL, Health.HEALTHY),
        (reply(200, {"system": {}}), Health.LOADING),
        (reply(200, b"<html>"), Health.LOADING),
        (reply(404, b""), Health.LOADING),
        (reply(401, {}), Health.UNAUTHORIZED),
        (drop, Health.UNREACHABLE),
    ],
)
def test_only_a_comfyui_is_healthy(answer: Answer, health: Health) -> None:
    with http_server({"GET /system_stats": answer}) as seen:
        engine = build_comfyui(Settings(comfyui_url=seen.url))
        assert engine.health() is health
        assert ("not as ComfyUI" in engine.explain()) is (health is Health.LOADING)
        let_go(engine)


def let_go(engine: ComfyEngine) -> None:
    while engine.client._idle:
        engine.client._idle.pop()[1].close()


@pytest.mark.parametrize(
    ("version", "interruptible"), [("0.24.0", True), ("0.3.57", True), ("0.3.56", False), ("", False)]
)
def test_an_engine_that_ignores_ids_is_not_interruptible(version: str, *, interruptible: bool) -> None:
    answers = {
        "GET /system_stats": reply(200, {"system": {"comfyui_version": version}}),
        "GET /object_info": reply(200, MODELS),
        "GET /embeddings": reply(200, ["easy", 7]),
    }
    with http_server(answers) as seen:
        engine = build_comfyui(Settings(comfyui_url=seen.url))
        assert json.loads(engine.describe().props)["interruptible"] is interruptible
        let_go(engine)


def test_an_operator_chooses_the_checkpoint() -> None:
    answers = {"GET /system_stats": WELL, "GET /object_info": reply(200, MODELS), "GET /embeddings": reply(404, b"")}
    with http_server(answers) as seen:
        engine = build_comfyui(Settings(comfyui_url=seen.url))
        engine.describe()
        assert engine.checkpoint == "one.safetensors"

        def change(**options: Any) -> int:
            job = RenderJob("/sdapi/v1/options", json.dumps(options).encode(), "8" * 32, 1)
            return engine.start_render(job, Call()).run()[0]

        assert change(sd_model_checkpoint="two") == 200
        assert engine.checkpoint == "two.ckpt"
        assert (change(sd_model_checkpoint="three"), change(other=1)) == (404, 400)
        let_go(engine)


def test_settings_choose_it() -> None:
    engine = webui.build_image_engine(Settings(comfyui_startup_command="comfy --port {port}", sd_port=7999))
    assert isinstance(engine, ComfyEngine)
    assert (engine.command(), engine.url) == (["comfy", "--port", "7999"], "http://127.0.0.1:7999")
    adopted = webui.build_image_engine(Settings(comfyui_url="http://me:word@box:8188/"))
    assert isinstance(adopted, ComfyEngine)
    assert adopted.command() is None
    assert "word" not in adopted._bare_url
    assert not SD.owns_engine(Settings(comfyui_url="http://box:1"))
    assert not SD.is_placeholder(Settings(comfyui_startup_command="comfy"))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"comfyui_url": "https://box"}, "COMFYUI_URL"),
        ({"comfyui_url": "http://box:1", "a1111_url": "http://box:2"}, "A1111_URL"),
        ({"comfyui_startup_command": "comfy", "sd_startup_command": "webui"}, "SD_STARTUP_COMMAND"),
        ({"comfyui_startup_command": "comfy", "remote": False}, "REMOTE"),
        ({"comfyui_startup_command": "comfy {prot}"}, "COMFYUI_STARTUP_COMMAND"),
    ],
)
def test_settings_that_cannot_be_used_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        webui.build_image_engine(Settings(**settings))
