from __future__ import annotations

import json
from typing import Any

import pytest

from graycat.engines.client import StopReason
from graycat.engines.renders import RenderJob
from graycat.engines.webui import WebuiEngine
from graycat.errors import BrokerUnavailable, EngineLost
from graycat.queue.events import PROGRESS as PROGRESS_EVENT
from graycat.queue.models import Attempt, Verdict
from graycat.tasks.sd import RenderCall
from graycat.tasks.sd_progress import ProgressReporter
from tests.support.helpers import Valkey
from tests.support.servers import drop, reply
from tests.support.webuis import PROGRESS, encoded, image_worker_on, picture, progress
from tests.support.workers import Worker

PREVIEW, NEXT_PREVIEW = picture("red"), picture("blue")
TOLD = {"progress": 0.26, "eta_s": 1.2, "step": 5, "steps": 20, "job": 0, "jobs": 1, "preview": False}


class Scene:
    """A render under way, and what its reporter has reported."""

    def __init__(self, worker: Worker) -> None:
        engine: Any = worker.runtime.engine
        assert isinstance(engine, WebuiEngine)
        self.worker = worker
        self.attempt: Attempt = worker.claim(kind="sd.txt2img")
        self.call = RenderCall()
        render = engine.start_render(RenderJob("", b"", self.attempt.task_id, 1), self.call)
        self.reporter = ProgressReporter(render, worker.records, self.attempt, self.call)

    def report(self, said: Any = None) -> None:
        """Report once; ``said``: what the engine answers from now on."""
        if said is not None:
            self.worker.seen.answers[PROGRESS] = reply(200, said) if isinstance(said, (dict, bytes)) else said
        self.reporter.report()

    def events(self) -> list[Any]:
        """Return what was reported, oldest first."""
        events = self.worker.records.events(self.attempt.task_id)
        return [json.loads(event.data) for event in events if event.kind == PROGRESS_EVENT]


@pytest.fixture
def scene(broker: Valkey):
    with image_worker_on(broker, {PROGRESS: reply(200, progress(0.26, sampling_step=5))}) as worker:
        yield Scene(worker)


def test_progress_is_in_the_record_and_an_event(scene: Scene) -> None:
    scene.report()
    assert scene.events() == [TOLD]
    assert json.loads(scene.worker.records.get(scene.attempt.task_id)["progress"]) == TOLD


def test_progress_that_has_not_changed_is_reported_once(scene: Scene) -> None:
    for step in (5, 5, 5, 6):
        scene.report(progress(0.26, sampling_step=step))
    assert [reported["step"] for reported in scene.events()] == [5, 6]


def test_only_the_newest_preview_is_stored_and_not_in_the_events(scene: Scene) -> None:
    for image in (PREVIEW, NEXT_PREVIEW):
        scene.report(progress(0.5, encoded(image)))
        assert scene.worker.records.preview(scene.attempt.task_id) == image
    assert [reported["preview"] for reported in scene.events()] == [True, True]
    assert encoded(PREVIEW) not in json.dumps(scene.events())


@pytest.mark.parametrize("preview", ["no base64!", 5, ["AAAA"], "data:image/png;base64,AAAA", ""])
def test_a_broken_preview_is_left_out_and_the_progress_reported(scene: Scene, preview: Any) -> None:
    scene.report(progress(0.5, preview))
    assert [(reported["progress"], reported["preview"]) for reported in scene.events()] == [(0.5, False)]
    assert scene.worker.records.preview(scene.attempt.task_id) is None


@pytest.mark.parametrize(("said", "reported"), [(1.7, 1.0), (-0.1, 0.0), ("0.5", 0.5), (0.12345, 0.123)])
def test_a_share_is_between_nothing_and_all(scene: Scene, said: Any, reported: float) -> None:
    scene.report(progress() | {"progress": said, "eta_relative": -0.04})
    assert [(event["progress"], event["eta_s"]) for event in scene.events()] == [(reported, 0.0)]


def test_a_job_that_only_begins_has_no_batches_yet(scene: Scene) -> None:
    scene.report(progress(0.01, job_count=-1))
    assert scene.events()[0]["jobs"] == 0


def test_an_engine_s_last_render_is_not_taken_for_this_one(scene: Scene) -> None:
    scene.report(progress(0.0, job_count=0, sampling_step=60, sampling_steps=60))
    assert scene.events() == []


@pytest.mark.parametrize(
    "said", [b"", b"<html>", b"[]", {"progress": 0.5}, progress() | {"progress": None}, progress(sampling_step="a")]
)
def test_a_malformed_reply_is_not_reported(scene: Scene, said: Any) -> None:
    with pytest.raises(EngineLost):
        scene.report(said)
    assert scene.events() == []


def test_an_infinite_number_makes_no_sense_either(scene: Scene) -> None:
    with pytest.raises(EngineLost):
        scene.report(json.dumps(progress()).replace('"sampling_step": 0', '"sampling_step": Infinity').encode())


def test_an_engine_that_does_not_tell_is_not_asked_again(scene: Scene) -> None:
    scene.report(reply(404, {}))
    scene.report()
    assert len(scene.worker.seen.requests) == 1
    assert scene.events() == []


def test_an_engine_that_goes_away_is_lost(scene: Scene) -> None:
    with pytest.raises(EngineLost):
        scene.report(drop)


@pytest.mark.parametrize(
    ("how", "reason"), [(Verdict.CANCEL, StopReason.CANCELLED), (Verdict.INTERRUPT, StopReason.INTERRUPTED)]
)
def test_a_report_returns_what_the_caller_requested(scene: Scene, how: Verdict, reason: StopReason) -> None:
    scene.worker.records.cancel(scene.attempt.task_id, how)
    scene.report()
    assert scene.call.stopped is reason


def test_an_attempt_that_was_taken_over_is_stopped_and_tells_nothing(scene: Scene) -> None:
    scene.worker.client.hset(f"graycat:task:{scene.attempt.task_id}", "attempt", 2)
    scene.report()
    assert scene.call.stopped is StopReason.STALE
    assert scene.events() == []


@pytest.mark.parametrize("missed", ["report_progress", "save_preview"])
def test_a_report_that_failed_is_repeated_by_the_next(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, missed: str
) -> None:
    def away(*_: Any) -> None:
        raise BrokerUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(scene.worker.records, missed, away)
        scene.report(progress(0.5, encoded(PREVIEW)))
    assert scene.events() == []
    scene.report()
    assert [reported["progress"] for reported in scene.events()] == [0.5]
    assert scene.worker.records.preview(scene.attempt.task_id) == PREVIEW
