"""Image tasks on a ComfyUI that means no good, or shares itself with others."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import Reject

from graycat.engines.client import EngineClient
from graycat.engines.comfy import render, wire
from graycat.engines.comfy.progress import ProgressTracker
from graycat.engines.comfy.render import prompt_id_of
from graycat.engines.comfy.socket import parse_binary, parse_text
from graycat.engines.comfy.wire import ComfyWire
from graycat.engines.comfy.workflows import load_folder
from graycat.errors import EngineProtocolError
from graycat.settings import Settings
from tests.fakes.comfyui.lies import BROKEN_ENTRIES, BROKEN_FRAMES, BROKEN_MESSAGES, Lies
from tests.support.comfyui_wire import ComfyUI, running
from tests.support.helpers import Valkey, eventually, outcome_of
from tests.support.servers import http_server, reply
from tests.support.webuis import accept, answer_of, stored
from tests.unit.tasks.test_sd_comfyui import comfy_worker, fox, workflow_task

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    base = tmp_path_factory.mktemp("comfyui")
    with running("--preview-method", "auto", "--step-s", "0.01", base=base) as server:
        yield server


@pytest.fixture(autouse=True)
def well(comfyui: ComfyUI) -> Iterator[ComfyUI]:
    """The server, which tells the truth again afterwards."""
    yield comfyui
    comfyui.set(lie=None, socket="well", fail=None)


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_S", "POLL_URGENT_S"):
        monkeypatch.setattr(render, name, 0.02)
    monkeypatch.setattr(render, "LOST_POST_S", 0.2)


@pytest.mark.parametrize("entry", BROKEN_ENTRIES)
def test_an_entry_of_the_history_that_is_none_is_an_error_of_the_protocol(entry: Any) -> None:
    with http_server({"GET /history/x": reply(200, {"x": entry})}) as seen:
        told = ComfyWire(EngineClient(seen.url))
        if entry is None:
            assert told.history("x") is None
            return
        # Some can be read; their files are not there.
        with contextlib.suppress(EngineProtocolError):
            history = told.history("x")
            assert history is not None
            assert [told.download(file) for file in history.files.get("9", [])] in ([], [None])


@pytest.mark.parametrize("bound", [10**400, float("nan"), float("inf"), "x", None, []])
def test_a_bound_that_is_no_number_is_no_bound(comfyui: ComfyUI, tmp_path: Path, bound: Any) -> None:
    workflow = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 16}, "_meta": {"title": "input:width"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }
    (tmp_path / "one.json").write_text(json.dumps(workflow))
    info = comfyui.get("/object_info")
    info["EmptyImage"]["input"]["required"]["width"][1] = {"min": bound, "max": bound}
    (one,) = load_folder(tmp_path, info, Settings(home=tmp_path)).values()
    assert one.schema["properties"]["width"].get("minimum") is None


def test_messages_of_wrong_values_change_nothing() -> None:
    tracker = ProgressTracker("p", {"5": {"inputs": {"steps": 4}}, "9": {"inputs": {}}})
    for text in (*BROKEN_MESSAGES, *Lies("broken_messages").messages("p")):
        message = parse_text(text)
        if message is not None:
            tracker.feed(message, has_metadata=False)
        report = tracker.report() or {}
        assert 0 <= report.get("progress", 0.0) <= 1
        assert 0 <= report.get("eta_s", 0.0) < 3600
    assert [parse_binary(frame) for frame in BROKEN_FRAMES] == [None] * len(BROKEN_FRAMES)


@pytest.mark.parametrize("lie", ["broken_messages", "flood", "mute_submit"])
def test_a_server_that_talks_nonsense_or_not_at_all_still_renders(
    broker: Valkey, well: ComfyUI, lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "SUBMIT_TIMEOUT_S", 0.5)
    with comfy_worker(broker, well.url) as worker:
        well.set(lie=lie)
        task_id = accept(worker, body=fox())
        worker.run(task_id)
        assert (worker.ended(task_id), len(stored(worker, task_id))) == (("succeeded", "200"), 1)


@pytest.mark.parametrize("lie", ["broken_history", "huge_image", "bomb"])
def test_a_server_whose_pictures_are_none_makes_nothing_of_them(broker: Valkey, well: ComfyUI, lie: str) -> None:
    with comfy_worker(broker, well.url) as worker:
        well.set(lie=lie)
        task_id = accept(worker, body=fox())
        worker.run(task_id)
        assert (worker.ended(task_id), stored(worker, task_id)) == (("failed", "502"), [])


def test_the_history_of_another_prompt_is_not_ours(
    broker: Valkey, well: ComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "SILENT_AFTER_S", 0.05)
    monkeypatch.setattr(render, "POLL_SILENT_S", 0.05)
    with comfy_worker(broker, well.url) as worker:
        well.set(lie="other_history")
        task_id = accept(worker, body=fox())
        with pytest.raises(Reject):
            worker.run(task_id)
        assert (worker.ended(task_id), stored(worker, task_id)) == (("queued", ""), [])


#: Two outputs; the picture of the second is not there.
HALF = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 5}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "good"}},
    "3": {"class_type": "LoadImage", "inputs": {"image": "no-such.png"}},
    "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "bad"}},
}


@pytest.mark.parametrize("busy", [True, False])
def test_a_200_with_errors_is_a_refusal_and_nothing_of_it_is_left(
    broker: Valkey, well: ComfyUI, tmp_path: Path, *, busy: bool
) -> None:
    (tmp_path / "half.json").write_text(json.dumps(HALF))
    with comfy_worker(broker, well.url, comfyui_workflows=str(tmp_path)) as worker:
        task_id = workflow_task(worker, "half")
        if busy:
            with well.busy() as neighbour:
                worker.run(task_id)
                assert well.queued() == ([neighbour], [])
            assert well.history(prompt_id_of(task_id, 1)) is None
        else:
            worker.run(task_id)
        assert (worker.ended(task_id), stored(worker, task_id)) == (("failed", "400"), [])
        error = answer_of(worker, task_id)[1]["error"]
        assert error["type"] == "workflow_refused"
        assert "LoadImage (3): 'image'" in error["message"]


def test_two_workers_share_a_server(broker: Valkey, comfyui: ComfyUI) -> None:
    with comfy_worker(broker, comfyui.url) as one, comfy_worker(broker, comfyui.url) as other:
        tasks = [accept(one, body=fox(seed=seed, steps=10)) for seed in (1, 2)]
        ends = [outcome_of(partial(worker.run, task)) for worker, task in zip((one, other), tasks, strict=True)]
        for end in ends:
            end()
        assert [one.ended(task_id) for task_id in tasks] == [("succeeded", "200")] * 2
        first, second = (stored(one, task_id) for task_id in tasks)
        assert len(first) == len(second) == 1
        assert first != second


@pytest.mark.parametrize("lie", ["html", "deep_json", "huge_history"])
def test_a_render_that_fails_leaves_no_prompt_behind(
    broker: Valkey, well: ComfyUI, lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "POLL_HEARD_S", 0.1)
    with comfy_worker(broker, well.url) as worker:
        task_id = accept(worker, body=fox(steps=140))
        end = outcome_of(lambda: worker.run(task_id))
        well.wait_until_running(prompt_id_of(task_id, 1))
        well.set(lie=lie)
        end()
        well.set(lie=None)
        assert worker.ended(task_id) == ("failed", "502")
        eventually(lambda: well.history(prompt_id_of(task_id, 1)))
        assert well.history(prompt_id_of(task_id, 1))["status"]["status_str"] == "error"
