"""The rest is in ``tests/unit/tasks/test_sd_comfyui.py``: a render on a running server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from graycat.engines.client import Call, StopReason
from graycat.engines.comfy import render
from graycat.engines.comfy.render import ComfyRender, prompt_id_of
from graycat.engines.comfy.socket import SocketLost
from graycat.engines.comfy.wire import History
from graycat.engines.renders import RenderJob
from graycat.errors import EngineLost

TASK = "8" * 32
WORKFLOW: dict[str, Any] = {"1": {"class_type": "Save", "inputs": {}}}


class Plan:
    uploads: dict[str, bytes] = {}

    def build(self, _files: Any, _prefix: str) -> Any:
        return WORKFLOW

    def answer(self, history: History, _fetch: Any) -> Any:
        return {"images": [], "outcome": history.outcome}


class Wire:
    """A server that says what it is told to."""

    def __init__(self, submit: Any = None, ended: History | None = None, *, queued: bool = False) -> None:
        self.answer = submit or (200, {"prompt_id": prompt_id_of(TASK, 1), "node_errors": {}})
        self.ended, self.queued = ended, queued
        self.calls: list[str] = []

    def submit(self, *_: Any) -> Any:
        self.calls.append("submit")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def history(self, _: str) -> History | None:
        return self.ended if "submit" in self.calls else None

    def is_queued(self, _: str) -> bool:
        return self.queued and "submit" in self.calls

    def delete(self, _: str) -> None:
        self.calls.append("delete")
        self.queued = False

    def interrupt(self, _: str) -> None:
        self.calls.append("interrupt")


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_S", "POLL_URGENT_S", "LOST_POST_S"):
        monkeypatch.setattr(render, name, 0.01)


def no_socket(_: str) -> Any:
    raise SocketLost


def begun(wire: Wire, *, interruptible: bool = True) -> tuple[ComfyRender, Call]:
    call = Call()
    job = RenderJob("", b"", TASK, 1)
    fake: Any = wire
    return ComfyRender(fake, no_socket, job, call, Plan, interruptible=interruptible), call


def test_a_200_with_node_errors_is_a_refusal_and_is_cancelled() -> None:
    answer = {"prompt_id": prompt_id_of(TASK, 1), "node_errors": {"1": {"errors": [{"type": "value_not_in_list"}]}}}
    wire = Wire((200, answer), queued=True)
    status, body = begun(wire)[0].run()
    assert (status, json.loads(body)["error"]["type"]) == (400, "workflow_refused")
    assert wire.calls == ["submit", "delete", "interrupt"]


@pytest.mark.parametrize("answer", [EngineLost(), (500, None)])
def test_a_post_without_an_answer_is_looked_for_and_not_repeated(answer: Any) -> None:
    wire = Wire(answer, History("success", {}, {}))
    assert begun(wire)[0].run()[0] == 200
    assert wire.calls == ["submit"]


def test_a_post_that_never_came_in_is_lost() -> None:
    wire = Wire(EngineLost())
    with pytest.raises(EngineLost):
        begun(wire)[0].run()
    assert wire.calls == ["submit"]


def test_a_server_that_cannot_interrupt_by_id_is_never_interrupted() -> None:
    wire = Wire(queued=True)
    attempt, call = begun(wire, interruptible=False)
    attempt._prompt_id = prompt_id_of(TASK, 1)
    call.stop(StopReason.CANCELLED)
    attempt.interrupt()
    assert wire.calls == ["delete"]


def test_a_stale_attempt_leaves_the_prompt_to_the_newer_one() -> None:
    wire = Wire(queued=True)
    attempt, call = begun(wire)
    attempt._prompt_id = prompt_id_of(TASK, 1)
    call.stop(StopReason.STALE)
    attempt.interrupt()
    assert wire.calls == []
    with pytest.raises(EngineLost):
        attempt._follow(None)


def test_a_prompt_that_somebody_else_has_ended_is_made_again() -> None:
    with pytest.raises(EngineLost):
        begun(Wire(ended=History("interrupted", {}, {})))[0].run()


def test_ids_are_lower_case_uuids_of_their_own() -> None:
    assert prompt_id_of(TASK, 1) == prompt_id_of(TASK, 1) != prompt_id_of(TASK, 2)
    assert prompt_id_of(TASK, 1) == prompt_id_of(TASK, 1).lower()
