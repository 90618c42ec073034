from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from graycat.queue.models import Attempt, Verdict
from graycat.queue.records import TaskRecords
from graycat.status.forecast import Wait
from graycat.web.compat.webui_progress import progress_view, running_task_ids
from tests.support.helpers import accepted, started
from tests.support.webuis import encoded, picture

HALF = {"progress": 0.5, "eta_s": 1.5, "step": 10, "steps": 20, "job": 1, "jobs": 2, "preview": False}
PREVIEW = picture()


def rendering(records: TaskRecords, seen: dict[str, Any] | None = None, **changes: Any) -> Attempt:
    """Start a render, and tell how far it is."""
    attempt = started(records, **{"kind": "sd.txt2img", "queue": "sd", **changes})
    if seen is not None:
        records.report_progress(attempt, json.dumps(seen).encode())
    return attempt


def shown(records: TaskRecords, *, with_image: bool = True) -> dict[str, Any]:
    return progress_view(records, "tests", with_image=with_image)


def test_a_caller_without_renders_finds_an_idle_webui(records: TaskRecords) -> None:
    rendering(records, HALF, owner="somebody else")
    started(records, kind="llm.completion")
    idle = shown(records)
    assert (idle["progress"], idle["eta_relative"], idle["current_image"], idle["textinfo"]) == (0.0, 0.0, None, None)
    assert (idle["state"]["job_count"], idle["state"]["job"], idle["state"]["job_timestamp"]) == (0, "", "0")


def test_a_queued_image_task_looks_like_one_that_begins(records: TaskRecords) -> None:
    for _ in range(2):
        accepted(records, kind="sd.txt2img", queue="sd")
    waiting = shown(records)
    assert (waiting["progress"], waiting["state"]["job_count"]) == (0.0, -1)
    assert waiting["textinfo"] == "Waiting: 2 in the queue"
    # Who waits until nothing is under way goes on waiting, and the next caller's idle is idle.
    assert progress_view(records, "nobody", with_image=True)["state"]["job_count"] == 0


def test_a_queued_image_task_tells_when_it_is_started(records: TaskRecords) -> None:
    for queue in ("sd.batch", "sd", "sd"):
        accepted(records, kind="sd.txt2img", queue=queue)
    asked: list[str] = []

    def ask(_: str, record: Mapping[str, str]) -> Wait:
        asked.append(record["queue"])
        return Wait(7, 20.0) if record["queue"] == "sd.batch" else Wait(5, 12.5)

    waiting = progress_view(records, "tests", with_image=True, ask=ask)
    assert sorted(asked) == ["sd", "sd.batch"]
    assert (waiting["progress"], waiting["eta_relative"]) == (0.0, 12.5)
    assert waiting["textinfo"] == "Waiting: 3 in the queue, the next is number 5"


def test_a_queued_image_task_that_nobody_takes_tells_why(records: TaskRecords) -> None:
    accepted(records, kind="sd.txt2img", queue="sd")
    waiting = progress_view(records, "tests", with_image=True, ask=lambda *_: Wait(1, None, "the queue sd is paused"))
    assert (waiting["eta_relative"], waiting["textinfo"]) == (0.0, "Waiting: 1 in the queue; the queue sd is paused")


def test_a_running_render_has_the_webui_s_fields(records: TaskRecords) -> None:
    rendering(records, HALF)
    running = shown(records)
    assert (running["progress"], running["eta_relative"]) == (0.5, 1.5)
    state = running["state"]
    assert len(state.pop("job_timestamp")) == 14
    assert state == {
        "skipped": False,
        "interrupted": False,
        "stopping_generation": False,
        "job": "scripts_txt2img",
        "job_count": 2,
        "job_no": 1,
        "sampling_step": 10,
        "sampling_steps": 20,
    }


def test_a_render_of_which_nothing_is_known_yet_has_just_begun(records: TaskRecords) -> None:
    rendering(records)
    begun = shown(records)
    assert (begun["progress"], begun["state"]["job_count"], begun["current_image"]) == (0.01, -1, None)


def test_a_preview_is_shown_unless_it_is_skipped(records: TaskRecords) -> None:
    attempt = rendering(records, HALF | {"preview": True})
    records.save_preview(attempt.task_id, PREVIEW)
    assert shown(records)["current_image"] == encoded(PREVIEW)
    assert shown(records, with_image=False)["current_image"] is None


def test_a_preview_that_is_gone_is_none(records: TaskRecords) -> None:
    rendering(records, HALF | {"preview": True})
    assert shown(records)["current_image"] is None


def test_an_old_preview_is_not_shown_for_a_newer_job(records: TaskRecords) -> None:
    attempt = rendering(records, HALF)
    records.save_preview(attempt.task_id, PREVIEW)
    assert shown(records)["current_image"] is None


@pytest.mark.parametrize("how", [Verdict.CANCEL, Verdict.INTERRUPT])
def test_progress_of_a_cancelled_image_task_is_marked_interrupted(records: TaskRecords, how: Verdict) -> None:
    attempt = rendering(records, HALF)
    records.cancel(attempt.task_id, how)
    state = shown(records)["state"]
    assert (state["interrupted"], state["stopping_generation"]) == (True, True)


def test_of_several_image_tasks_the_newest_running_one_is_shown(records: TaskRecords, client) -> None:
    older = rendering(records, HALF)
    newer = rendering(records, HALF | {"progress": 0.25}, kind="sd.img2img")
    client.hset(f"graycat:task:{newer.task_id}", "started_ms", 2_000_000_000_000)
    accepted(records, kind="sd.txt2img", queue="sd")
    assert (shown(records)["progress"], shown(records)["state"]["job"]) == (0.25, "scripts_img2img")
    assert running_task_ids(records, "tests") == [older.task_id, newer.task_id]


def test_running_task_ids_are_the_caller_s_image_tasks(records: TaskRecords) -> None:
    mine = rendering(records)
    rendering(records, owner="somebody else")
    accepted(records, kind="sd.txt2img", queue="sd")
    started(records, kind="llm.completion")
    assert running_task_ids(records, "tests") == [mine.task_id]
    records.succeed(mine, 200, b"{}")
    assert running_task_ids(records, "tests") == []
