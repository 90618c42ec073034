from __future__ import annotations

from typing import Any

import pytest

from graycat.engines.comfy.progress import ProgressTracker
from graycat.engines.comfy.socket import Message

WORKFLOW: dict[str, Any] = {
    "1": {"class_type": "Load", "inputs": {}},
    "2": {"class_type": "KSampler", "inputs": {"steps": 7}},
    "3": {"class_type": "Save", "inputs": {}},
}


def told(kind: str, prompt_id: str = "ours", **data: Any) -> Message:
    return Message(kind, data | {"prompt_id": prompt_id}, prompt_id)


def shares(tracker: ProgressTracker, *messages: Message) -> list[float]:
    found = []
    for message in messages:
        tracker.feed(message, has_metadata=True)
        report = tracker.report()
        found.append(-1.0 if report is None else report["progress"])
    return found


def test_steps_and_nodes_count() -> None:
    tracker = ProgressTracker("ours", WORKFLOW)
    assert tracker.report() is None
    done = shares(
        tracker,
        told("execution_start"),
        told("execution_cached", nodes=["1"]),
        told("executing", node="2"),
        told("progress", node="2", value=7, max=14),
        told("executing", node="3"),
        told("executed", node="3"),
        told("executing", node=None),
    )
    assert done == [0.0, 0.1, 0.1, 0.5, 0.9, 1.0, 1.0]
    assert tracker.over


def test_a_neighbour_s_messages_are_not_ours() -> None:
    tracker = ProgressTracker("ours", WORKFLOW)
    assert (
        shares(tracker, told("execution_start", "theirs"), told("progress", "theirs", node="2", value=1, max=2))
        == [-1.0] * 2
    )
    image = Message("preview", {}, "", b"\xff\xd8\xff")
    assert not tracker.feed(image, has_metadata=False)
    assert not tracker.feed(Message("preview", {}, "theirs", b"x"), has_metadata=True)
    tracker.feed(told("execution_start"), has_metadata=True)
    assert not tracker.feed(image, has_metadata=True)
    assert tracker.feed(image, has_metadata=False)
    report = tracker.report()
    assert report is not None
    assert report["current_image"] == b"\xff\xd8\xff"


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"node": "2", "value": "x", "max": 7},
        {"node": "2", "value": 1, "max": 0},
        {"node": {}, "value": 1, "max": 7},
        {"node": "99", "value": 1, "max": 7},
        {"node": "2", "value": float("nan"), "max": 7},
        {"node": "2", "value": True, "max": 7},
    ],
)
def test_wrong_values_change_nothing(data: dict[str, Any]) -> None:
    tracker = ProgressTracker("ours", WORKFLOW)
    assert shares(tracker, told("execution_start"), told("progress", **data)) == [0.0, 0.0]
