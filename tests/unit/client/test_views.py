from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from graycat.client.errors import RequestError, ServerError, TaskCancelled, TaskExpired, UnexpectedReply
from graycat.client.views import Event, Image, Progress, TaskView, parse_event_id

QUEUED = {"id": "a1", "kind": "sd.txt2img", "state": "queued"}


def view(**changes: Any) -> TaskView:
    return TaskView.from_json(QUEUED | changes)


def test_a_view_has_the_api_s_fields_and_the_raw_object() -> None:
    value = QUEUED | {"queue_position": 2, "eta_s": 1.5, "metadata": {"run": 7}, "newer": True}
    seen = TaskView.from_json(value)
    assert (seen.id, seen.queue_position, seen.eta_s, seen.metadata) == ("a1", 2, 1.5, {"run": 7})
    assert (seen.done, seen.worker, seen.started_ms, seen.progress) == (False, "", None, None)
    assert seen.raw == value
    with pytest.raises(FrozenInstanceError):
        seen.state = "running"  # type: ignore[misc]


def test_progress_is_a_fraction() -> None:
    value = {"progress": 0.45, "eta_s": 3.2, "step": 9, "steps": 20, "job": 0, "jobs": 1, "preview": True}
    expected = Progress(0.45, 3.2, 9, 20, 0, 1, preview=True)
    assert view(state="running", progress=value).progress == expected
    assert Event("1-0", "progress", value | {"preview": "/tasks/a1/preview"}).progress == expected
    assert Event("1-0", "chunk", value).progress is None


@pytest.mark.parametrize(
    "value",
    [{}, {"id": "a1"}, QUEUED | {"progress": 7}, QUEUED | {"progress": {"progress": "x"}}, QUEUED | {"events": 7}],
)
def test_an_invalid_task_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(UnexpectedReply):
        TaskView.from_json(value)


@pytest.mark.parametrize(
    ("answer", "numbers"),
    [
        ({"result": {"images": [{"url": "/tasks/a1/images/0"}, {"url": "/tasks/a1/images/11"}]}}, (0, 11)),
        ({"result": {"image": {"url": "/tasks/a1/images/0"}, "html_info": ""}}, (0,)),
        ({"partial_result": {"images": [{"url": "/tasks/a1/images/0"}]}}, (0,)),
        ({"result": {"images": [{"url": "http://elsewhere.example/x"}, "base64", None]}}, ()),
        ({"result": [1]}, ()),
        ({}, ()),
    ],
)
def test_images_are_known_by_their_numbers(answer: dict[str, Any], numbers: tuple[int, ...]) -> None:
    assert view(**answer).images == numbers


def test_a_problem_is_the_error_that_its_type_names() -> None:
    expired = view(state="expired", status=503, error={"type": "task_expired", "message": "no worker"}).problem
    assert (type(expired), str(expired)) == (TaskExpired, "no worker")
    assert type(view(state="failed", status=400, error={"type": "exceed_context"}).problem) is RequestError
    assert type(view(state="failed", status=400, error="plain words").problem) is RequestError
    assert type(view(state="failed").problem) is ServerError
    assert type(view(state="cancelled", status=499).problem) is TaskCancelled
    assert view(state="succeeded", status=200, result={}).problem is None


def test_an_event_has_a_text_and_may_be_the_last() -> None:
    assert [Event("1", kind, {}).last for kind in ("started", "chunk", "result", "error", "cancelled")] == [
        *(False, False),
        *(True, True, True),
    ]
    assert (Event("1", "chunk", {"content": "Hi"}).text, Event("1", "result", {"content": "Hi"}).text) == ("Hi", "")


@pytest.mark.parametrize("value", [None, [], {"id": "1-0"}, {"id": "x", "event": "chunk", "data": 1}])
def test_an_invalid_event_is_refused(value: Any) -> None:
    with pytest.raises(UnexpectedReply):
        Event.from_json(value)


def test_events_are_in_order_by_time_and_number() -> None:
    assert parse_event_id("9-10") > parse_event_id("9-9") > parse_event_id("9") < parse_event_id("10-0")


def test_a_file_s_name_ends_as_its_content_says() -> None:
    types = ("image/png", "image/jpeg", "image/webp", "text/plain")
    assert [Image(0, content_type, b"").extension for content_type in types] == ["png", "jpg", "webp", "bin"]
