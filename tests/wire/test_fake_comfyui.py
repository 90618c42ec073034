"""The double of ComfyUI holds what was measured on the real server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.comfyui_wire import ComfyUI, Listener, running, txt2img


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    base: Path = tmp_path_factory.mktemp("comfyui")
    with running(base=base) as server:
        yield server


def test_a_run_tells_its_steps_in_order(comfyui: ComfyUI) -> None:
    with Listener(comfyui) as listener:
        prompt_id = str(uuid.uuid4())
        answer = comfyui.send(txt2img(comfyui), client_id=listener.client_id, prompt_id=prompt_id).json()
        assert (answer["prompt_id"], answer["node_errors"]) == (prompt_id, {})
        listener.wait_for_end(prompt_id)
        kinds = [kind for kind in listener.kinds() if kind not in ("progress_state", "progress", "executing")]
    start = ["status", "status", "status", "execution_start", "execution_cached"]
    assert kinds == [*start, "executed", "execution_success", "status"]
    (image,) = comfyui.history(prompt_id)["outputs"]["9"]["images"]
    assert comfyui.call("GET", "/view", params=image).content.startswith(b"\x89PNG")
