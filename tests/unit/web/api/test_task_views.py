from __future__ import annotations

import time
from typing import Any

import pytest

from graycat.broker import keys
from graycat.errors import EngineError
from graycat.queue.errors import TaskGone, TaskNotFound
from graycat.queue.events import TaskEvent
from graycat.queue.pages import EventPages
from graycat.queue.records import TaskRecords
from graycat.web.api import task_views
from tests.support.helpers import accepted, changed, claimed, eventually, started
from tests.unit.web.api.conftest import named

pytestmark = pytest.mark.usefixtures("as_caller")

SILENT = "the engine answered 500 and did not say why; the operator finds more in its log"


def view_of(records: TaskRecords, task_id: str) -> dict[str, Any]:
    return task_views.task_view(task_id, records.get(task_id))


def test_a_task_is_found_by_its_id_and_by_the_one_that_its_owner_chose(records) -> None:
    plain, chosen = accepted(records), accepted(records, id=named("mine"))
    assert task_views.find_task(plain)[0] == plain
    assert task_views.find_task("mine")[0] == chosen


@pytest.mark.parametrize("owner", ["game", None])
def test_another_caller_s_task_is_not_found_either(records, owner: str | None) -> None:
    task_id = accepted(records, owner=owner, shown={}) if owner else "nobody"
    with pytest.raises(TaskNotFound):
        task_views.find_task(task_id)


@pytest.mark.parametrize("asked", ["plain", "mine"])
def test_a_task_that_is_over_and_forgotten_is_gone(records, client, asked: str) -> None:
    ids = {"plain": accepted(records, shown={}), "mine": accepted(records, id=named("mine"), shown={})}
    for task_id in ids.values():
        client.delete(keys.record_key(task_id))
    with pytest.raises(TaskGone):
        task_views.find_task("mine" if asked == "mine" else ids["plain"])


def test_another_caller_s_deleted_task_is_not_found(records, client) -> None:
    task_id = accepted(records, owner="game", shown={})
    client.delete(keys.record_key(task_id))
    with pytest.raises(TaskNotFound):
        task_views.find_task(task_id)


def test_reading_a_task_past_its_queue_deadline_expires_it(broker, records) -> None:
    hasty = TaskRecords(broker.client, changed(broker.settings, queue_ttl_s=0.01))
    task_id = accepted(hasty)
    eventually(lambda: task_views.find_task(task_id)[1]["state"] == "expired")
    assert view_of(records, task_id)["error"]["type"] == "task_expired"


def test_a_wrong_local_clock_expires_no_task(records, monkeypatch) -> None:
    task_id = accepted(records)
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + 3600)
    assert task_views.find_task(task_id)[1]["state"] == "queued"


def test_a_view_has_no_prompt_no_owner_and_no_inner_fields(records) -> None:
    view = view_of(records, accepted(records, shown={"digest": "d", "metadata": '{"a":1}', "priority": "batch"}))
    assert view["metadata"] == {"a": 1}
    assert not {"owner", "body", "message", "digest", "channels", "keep_body", "mode"} & set(view)


def test_a_view_shows_how_long_a_task_waited_and_ran(records) -> None:
    attempt = started(records)
    assert set(view_of(records, attempt.task_id)["timings"]) == {"queued_ms"}
    records.succeed(attempt, 200, b"{}")
    view = view_of(records, attempt.task_id)
    assert view["timings"]["queued_ms"] == view["started_ms"] - view["submitted_ms"]
    assert view["timings"]["run_ms"] == view["finished_ms"] - view["started_ms"]


def test_links_lead_to_what_can_be_done_now(records) -> None:
    attempt = started(records)
    address = f"/tasks/{attempt.task_id}"
    base = {"self": address, "events": f"{address}/events"}
    assert view_of(records, attempt.task_id)["links"] == base | {"cancel": f"{address}/cancel"}
    records.fail(attempt, EngineError(500, b"{}"))
    assert view_of(records, attempt.task_id)["links"] == base | {"retry": f"{address}/retry"}
    done = started(records, shown={"alias": "mine"})
    records.succeed(done, 200, b"{}")
    assert view_of(records, done.task_id)["links"] == {"self": "/tasks/mine", "events": "/tasks/mine/events"}


def test_a_queued_task_shows_its_position_and_estimated_wait(records, report, client) -> None:
    report("llm", slots=2)
    client.hset(keys.means_key("llm"), "llm.completion", 3000)
    ids = [accepted(records) for _ in range(3)]
    views = [view_of(records, task_id) for task_id in ids]
    assert [(view["queue_position"], view["eta_s"]) for view in views] == [(1, 3.0), (2, 3.0), (3, 6.0)]


def test_without_workers_or_earlier_tasks_there_is_no_estimate(records, report) -> None:
    task_id = accepted(records)
    assert view_of(records, task_id)["eta_s"] is None
    report("llm")
    assert view_of(records, task_id)["eta_s"] is None


def test_a_running_task_shows_its_worker_s_engine(records, report) -> None:
    report("llm", name="llm@here", engine="llama-server")
    attempt = started(records)
    assert view_of(records, attempt.task_id)["engine"] == "llama-server"


def test_a_tag_changes_with_the_state_the_attempt_and_the_progress(records) -> None:
    task_id = accepted(records)
    seen = [task_views.etag(records.get(task_id))]
    first = claimed(records, task_id)
    seen.append(task_views.etag(records.get(task_id)))
    records.report_progress(first, b'{"progress":0.5}')
    seen.append(task_views.etag(records.get(task_id)))
    records.release(first)
    seen.append(task_views.etag(records.get(task_id)))
    records.succeed(claimed(records, task_id), 200, b"{}")
    seen.append(task_views.etag(records.get(task_id)))
    assert len(set(seen)) == 5
    assert all(tag.startswith('"') and tag.endswith('"') for tag in seen)


def test_a_tag_stays_while_nothing_changes(records) -> None:
    attempt = started(records)
    before = task_views.etag(records.get(attempt.task_id))
    records.publish(attempt, 1, [b"a"])
    records.renew(attempt.task_id, 1)
    assert task_views.etag(records.get(attempt.task_id)) == before


@pytest.mark.parametrize(
    ("status", "reply", "fields"),
    [
        (200, b'{"content":"Hello"}', {"status": 200, "result": {"content": "Hello"}}),
        (200, b"[1, 2]", {"status": 200, "result": [1, 2]}),
        (200, b"not JSON \xff", {"status": 200, "result": "not JSON \ufffd"}),
    ],
)
def test_an_answer_is_shown_unchanged(records, status: int, reply: bytes, fields: dict[str, Any]) -> None:
    attempt = started(records)
    records.succeed(attempt, status, reply)
    assert fields.items() <= view_of(records, attempt.task_id).items()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b'{"error":{"code":400,"message":"too long"}}', {"code": 400, "type": "engine_error", "message": "too long"}),
        (b'{"detail":"Not Found"}', {"code": 500, "type": "engine_error", "message": "Not Found"}),
        (b"null", {"code": 500, "type": "engine_silent", "message": SILENT}),
        (b"", {"code": 500, "type": "engine_silent", "message": SILENT}),
    ],
)
def test_an_engine_s_error_is_never_null_whatever_its_shape(records, reply: bytes, error: object) -> None:
    attempt = started(records)
    records.fail(attempt, EngineError(500, reply))
    view = view_of(records, attempt.task_id)
    assert (view["state"], view["status"], view["error"]) == ("failed", 500, error)


def test_a_failed_task_whose_answer_is_gone_says_so(records, client) -> None:
    attempt = started(records)
    records.fail(attempt, EngineError(500, b"null"))
    client.delete(keys.events_key(attempt.task_id))
    assert view_of(records, attempt.task_id)["error"]["type"] == "answer_gone"


def test_images_are_shown_as_urls(records) -> None:
    attempt = started(records, kind="sd.txt2img", queue="sd")
    records.succeed(attempt, 200, b'{"images":[{"artifact":0},"grid",{"artifact":1}],"info":"{}"}')
    base = f"/tasks/{attempt.task_id}/images"
    assert view_of(records, attempt.task_id)["result"]["images"] == [{"url": f"{base}/0"}, "grid", {"url": f"{base}/1"}]


def test_a_single_image_is_shown_as_a_url() -> None:
    assert task_views.link_images("/tasks/mine", {"image": {"artifact": 0}}) == {
        "image": {"url": "/tasks/mine/images/0"}
    }


def test_an_interrupted_task_shows_its_partial_result(records) -> None:
    attempt = started(records, kind="sd.txt2img", queue="sd")
    records.finish_cancelled(attempt, b'{"images":[{"artifact":0}]}')
    view = view_of(records, attempt.task_id)
    assert (view["state"], view["status"]) == ("cancelled", 200)
    assert view["partial_result"]["images"][0]["url"].endswith("/images/0")


def test_an_answer_whose_events_are_gone_leaves_the_state(records, client) -> None:
    attempt = started(records)
    records.succeed(attempt, 200, b"{}")
    client.delete(keys.events_key(attempt.task_id))
    view = view_of(records, attempt.task_id)
    assert view["state"] == "succeeded"
    assert "result" not in view


@pytest.mark.parametrize("name", ["attempt", "submitted_ms", "finished_ms", "queue_deadline_ms", "size"])
@pytest.mark.parametrize("value", ["x", "-1", "1.5", "9" * 16, ""])
def test_a_record_whose_numbers_are_none_is_no_task(web, records, client, name: str, value: str) -> None:
    attempt = started(records, shown={})
    records.succeed(attempt, 200, b"{}")
    client.hset(keys.record_key(attempt.task_id), name, value)
    assert web.get(f"/tasks/{attempt.task_id}").status_code == 410


def test_what_is_no_json_in_a_record_is_left_out(web, records, client) -> None:
    attempt = started(records, shown={})
    records.succeed(attempt, 200, b"{}")
    client.hset(keys.record_key(attempt.task_id), mapping={"metadata": "{half", "progress": "\x1b"})
    view = web.get(f"/tasks/{attempt.task_id}")
    assert view.status_code == 200
    assert not {"metadata", "progress"} & view.json.keys()


def test_an_answer_that_makes_no_sense_is_said_to_be_so(web, records, client) -> None:
    attempt = started(records, shown={})
    records.succeed(attempt, 200, b"{}")
    client.xadd(keys.events_key(attempt.task_id), {"kind": "result", "data": "garbage"})
    answer = web.get(f"/tasks/{attempt.task_id}")
    assert (answer.status_code, answer.json["error"]["type"]) == (502, "engine_nonsense")
    client.xadd(keys.events_key(attempt.task_id), {"planet": "Mars"})
    assert web.get(f"/tasks/{attempt.task_id}").status_code == 200


def finished_stream(records: TaskRecords, count: int) -> str:
    """Return the id of a finished task whose answer is its events."""
    attempt = started(records)
    records.publish(attempt, 1, [b"%d" % number for number in range(count)])
    records.succeed(attempt, 200, b"")
    return attempt.task_id


def test_an_answer_whose_events_are_dropped_while_it_is_read_is_not_half_there(records, monkeypatch) -> None:
    task_id = finished_stream(records, 40)
    assert len(view_of(records, task_id)["events"]) == 40
    read = EventPages.read

    def read_and_drop(pages: EventPages) -> list[TaskEvent]:
        page = read(pages)
        records._client.delete(keys.events_key(task_id))
        return page

    monkeypatch.setattr(EventPages, "read", read_and_drop)
    assert {"status", "events"}.isdisjoint(view_of(records, task_id))


def test_events_without_the_last_one_are_no_answer(records, client) -> None:
    task_id = finished_stream(records, 2)
    client.xdel(keys.events_key(task_id), records.last_event(task_id).id)
    assert {"status", "events"}.isdisjoint(view_of(records, task_id))
