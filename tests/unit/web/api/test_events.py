from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from graycat.broker import keys
from graycat.errors import EngineError
from graycat.queue.events import TaskEvent
from graycat.web.api import events
from graycat.web.api.events import encode_ndjson, encode_sse
from graycat.web.services import services_of
from tests.support.helpers import accepted, claimed, eventually, outcome_of, reads_of_streams, started

CHUNKS = [b'data: {"content":"Hel"}\n\n', b'data: {"content":"lo"}\n\n']


def lines(response) -> list[dict[str, Any]]:
    """Return the events of an answer in JSON lines."""
    return [json.loads(line) for line in response.text.splitlines() if line]


def messages(response) -> list[dict[str, str]]:
    """Return the server-sent events of an answer, field by field."""
    blocks = [block for block in response.text.split("\n\n") if block and not block.startswith((":", "retry:"))]
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]


def finished(records, chunks: list[bytes] = CHUNKS) -> str:
    attempt = started(records)
    records.publish(attempt, 1, chunks)
    records.succeed(attempt, 200, b'{"content":"Hello"}')
    task_id: str = attempt.task_id
    return task_id


def test_the_events_of_a_task_that_is_over_are_played_again(web, records) -> None:
    task_id = finished(records)
    response = web.get(f"/tasks/{task_id}/events")
    assert (response.status_code, response.mimetype) == (200, "text/event-stream")
    assert response.headers["X-Accel-Buffering"] == "no"
    found = messages(response)
    assert [message["event"] for message in found] == ["started", "chunk", "chunk", "result"]
    assert [message["id"] for message in found] == [event.id for event in records.events(task_id)]
    assert [json.loads(message["data"]) for message in found] == [
        {"attempt": 1},
        {"content": "Hel"},
        {"content": "lo"},
        {"status": 200, "result": {"content": "Hello"}},
    ]


def test_bytes_of_a_box_that_are_no_text_are_no_error_of_ours(web, records, client) -> None:
    attempt = started(records)
    records.publish(attempt, 1, [b"data: \xff\n\n"])
    client.hset(keys.record_key(attempt.task_id), "worker", b"\xff")
    assert records.cancel(attempt.task_id) == ("running", "\ufffd")
    records.succeed(attempt, 200, b"")
    assert web.get(f"/tasks/{attempt.task_id}").json["events"] == ["data: \ufffd\n\n"]


def test_an_event_of_a_kind_that_only_the_next_version_knows_is_passed_on(web, records, client) -> None:
    attempt = started(records)
    client.xadd(keys.events_key(attempt.task_id), {"kind": "pondered", "data": b"7 thoughts"})
    records.succeed(attempt, 200, b'{"content":"Hello"}')
    found = lines(web.get(f"/tasks/{attempt.task_id}/events?format=ndjson"))
    assert [line["event"] for line in found] == ["started", "pondered", "result"]
    assert found[1]["data"] == {}


def test_the_same_events_come_a_json_object_a_line(web, records) -> None:
    task_id = finished(records)
    response = web.get(f"/tasks/{task_id}/events?format=ndjson")
    assert response.mimetype == "application/x-ndjson"
    sse = messages(web.get(f"/tasks/{task_id}/events"))
    assert [(line["id"], line["event"], line["data"]) for line in lines(response)] == [
        (message["id"], message["event"], json.loads(message["data"])) for message in sse
    ]


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("by", ["header", "query"])
def test_a_reader_resumes_after_the_event_it_saw_last(web, records, index: int, by: str) -> None:
    task_id = finished(records)
    everything = lines(web.get(f"/tasks/{task_id}/events?format=ndjson"))
    last = everything[index]["id"]
    query, headers = ("", {"Last-Event-ID": last}) if by == "header" else (f"&after={last}", {})
    rest = web.get(f"/tasks/{task_id}/events?format=ndjson{query}", headers=headers)
    assert lines(rest) == everything[index + 1 :]


def test_a_reader_that_has_the_last_event_gets_204(web, records) -> None:
    task_id = finished(records)
    last = records.events(task_id)[-1].id
    response = web.get(f"/tasks/{task_id}/events", headers={"Last-Event-ID": last})
    assert (response.status_code, response.data) == (204, b"")


@pytest.mark.parametrize("last", ["x", "1-", "-1", "1-x", "1" * 20, "1-" + "1" * 20, "٣-1", "1-1-1", "+1"])
def test_what_is_no_event_s_id_is_refused(web, records, last: str) -> None:
    response = web.get(f"/tasks/{finished(records)}/events", query_string={"after": last})
    assert (response.status_code, response.json["error"]["type"]) == (400, "invalid_request_error")


def test_an_unknown_form_is_refused(web, records) -> None:
    assert web.get(f"/tasks/{finished(records)}/events?format=xml").status_code == 400


def test_events_come_as_they_happen_until_the_last(web, submit, take, records) -> None:
    address = f"/tasks/{submit()}/events?format=ndjson"
    response = outcome_of(lambda: web.get(address))
    attempt = take()
    records.publish(attempt, 1, CHUNKS)
    records.fail(attempt, EngineError(500, b'{"error":{"code":500}}'))
    found = lines(response())
    assert [line["event"] for line in found] == ["started", "chunk", "chunk", "error"]
    error = found[-1]["data"]["error"]
    assert (found[-1]["data"]["status"], error["code"], error["type"]) == (500, 500, "engine_error")


def test_several_readers_of_one_task_see_the_same(web, submit, take, records, shared_app) -> None:
    address, headers = f"/tasks/{submit()}/events", {"Authorization": web.environ_base["HTTP_AUTHORIZATION"]}

    def read() -> str:
        retry, _, rest = shared_app.test_client().get(address, headers=headers).text.partition("\n\n")
        assert retry.startswith("retry: ")
        return rest

    waits = [outcome_of(read) for _ in range(4)]
    attempt = take()
    for number in range(1, 21):
        records.publish(attempt, number, [b"data: %d\n\n" % number])
    records.succeed(attempt, 200, b"{}")
    texts = {wait() for wait in waits}
    assert len(texts) == 1
    assert texts.pop().count("event: chunk") == 20


def test_a_reader_does_not_cancel_what_it_reads(web, submit, take, records) -> None:
    task_id = submit()
    take()
    response = web.get(f"/tasks/{task_id}/events", buffered=False)
    retry, first = itertools.islice(response.response, 2)
    assert (retry[:7], first[:4]) == (b"retry: ", b"id: ")
    response.close()
    assert "cancel" not in records.get(task_id)


def test_a_silent_task_s_stream_is_kept_alive_in_its_form(web_with, records, monkeypatch) -> None:
    monkeypatch.setattr(events, "RECONNECT_S", (1.5, 1.5))
    web = web_with(keepalive_s=0.02)
    for form, signs in (("sse", [b"retry: 1500\n\n", b": keep-alive\n\n"]), ("ndjson", [b"\n"])):
        response = web.get(f"/tasks/{accepted(records)}/events?format={form}")
        assert list(itertools.islice(response.response, len(signs))) == signs
        response.close()


def test_a_stream_ends_if_the_task_s_record_is_lost(web_with, records, client, monkeypatch) -> None:
    monkeypatch.setattr(events, "LAST_EVENT_TIMEOUT_S", 0.02)
    task_id = accepted(records)
    response = web_with(keepalive_s=0.02).get(f"/tasks/{task_id}/events?format=ndjson")
    client.delete(keys.record_key(task_id))
    assert response.data.replace(b"\n", b"") == b""


def test_a_stream_ends_with_an_error_if_the_task_expires(web_with) -> None:
    web = web_with(keepalive_s=0.02)
    body = {"kind": "llm.completion", "input": {"prompt": "Hi"}, "queue_ttl_s": 0.05}
    task_id = web.post("/tasks", json=body).json["id"]
    (last,) = messages(web.get(f"/tasks/{task_id}/events"))
    assert (last["event"], json.loads(last["data"])["error"]["type"]) == ("error", "task_expired")


def test_a_cancelled_task_s_last_event_says_so(web, records) -> None:
    task_id = accepted(records)
    records.cancel(task_id)
    (line,) = lines(web.get(f"/tasks/{task_id}/events?format=ndjson"))
    assert (line["event"], line["data"]) == ("cancelled", {"status": 499})


def test_a_stream_s_answer_is_not_sent_once_more_at_its_end(web, records) -> None:
    attempt = started(records)
    records.publish(attempt, 1, [b"data: [DONE]\n\n"])
    records.succeed(attempt, 200, b"")
    found = lines(web.get(f"/tasks/{attempt.task_id}/events?format=ndjson"))
    assert [line["data"] for line in found] == [{"attempt": 1}, "[DONE]", {"status": 200}]


def test_progress_has_the_preview_s_url(web, records) -> None:
    attempt = claimed(records, accepted(records, kind="sd.txt2img", queue="sd", shown={"alias": "mine"}))
    records.report_progress(attempt, b'{"progress":0.5,"preview":3}')
    records.report_progress(attempt, b'{"progress":0.9}')
    records.succeed(attempt, 200, b'{"images":[{"artifact":0}]}')
    found = lines(web.get(f"/tasks/{attempt.task_id}/events?format=ndjson"))
    assert [line["data"] for line in found[1:]] == [
        {"progress": 0.5, "preview": "/tasks/mine/preview"},
        {"progress": 0.9, "preview": None},
        {"status": 200, "result": {"images": [{"url": "/tasks/mine/images/0"}]}},
    ]


@pytest.mark.parametrize(
    ("raw", "data"),
    [
        (b'event: message_start\ndata: {"a":1}\n\n', {"event": "message_start", "data": {"a": 1}}),
        (b'data: {"a":\ndata: 1}\n\n', {"a": 1}),
        (b"data: no JSON\n\n", "no JSON"),
        (b'data:{"a":1}\n\n', {"a": 1}),
        (b": a comment\n\n", ""),
        (b"data: \xff\n\n", "\ufffd"),
    ],
)
def test_an_engine_s_event_is_shown_as_json_if_it_is(web, records, raw: bytes, data: object) -> None:
    task_id = finished(records, [raw])
    assert lines(web.get(f"/tasks/{task_id}/events?format=ndjson"))[1]["data"] == data


def test_a_stream_leaves_no_subscription_behind(web, records, shared_app) -> None:
    task_id = finished(records)
    with web.get(f"/tasks/{task_id}/events") as response:
        assert response.data
    eventually(lambda: task_id not in services_of(shared_app).gateway.hub._subscriptions_of(task_id))


def test_an_event_of_this_process_has_no_id_line() -> None:
    ours = TaskEvent("", "error", b'503 {"error": {"code": 503, "message": "stops", "type": "shutting_down"}}')
    # A browser would take an `error` for the task's: to it, an event without an id has that of the event before.
    assert encode_sse(ours, "a-task").startswith(b"event: closing\ndata: ")
    assert json.loads(encode_ndjson(ours, "a-task"))["event"] == "closing"
    assert encode_sse(TaskEvent("1-0", "started", b"1"), "a-task").startswith(b"id: 1-0\nevent: started\n")


def refused(web, task_id: str, after: str) -> tuple[int, str]:
    response = web.get(f"/tasks/{task_id}/events", headers={"Last-Event-ID": after})
    return response.status_code, response.json["error"]["type"]


@pytest.mark.parametrize("state", ["queued", "running", "over"])
def test_who_goes_on_behind_an_event_that_the_task_does_not_have_is_told(web, records, submit, state: str) -> None:
    other = records.events(finished(records))[1].id
    task_id = finished(records) if state == "over" else submit()
    if state == "running":
        records.publish(claimed(records, task_id), 1, CHUNKS)
    for after in (other, "1-1", "9999999999999-0"):
        assert refused(web, task_id, after) == (400, "event_unknown")


def test_who_has_not_got_all_events_of_a_task_is_told_when_they_are_gone(web, records, client) -> None:
    task_id = finished(records)
    first, *_, last = [event.id for event in records.events(task_id)]
    client.delete(keys.events_key(task_id))
    assert refused(web, task_id, first) == (410, "events_gone")
    assert web.get(f"/tasks/{task_id}/events").json["error"]["type"] == "events_gone"
    assert web.get(f"/tasks/{task_id}/events", headers={"Last-Event-ID": last}).status_code == 204
    assert web.get(f"/tasks/{task_id}").json["state"] == "succeeded"


def test_who_reads_a_stream_whose_beginning_was_dropped_is_told_from_where_on_it_is_kept(web, records, client) -> None:
    task_id = finished(records)
    kept = records.events(task_id)[2:]
    client.xtrim(keys.events_key(task_id), minid=kept[0].id, approximate=False)
    response = web.get(f"/tasks/{task_id}/events?format=ndjson")
    assert (response.status_code, response.json["error"]["type"]) == (410, "events_gone")
    after = response.json["error"]["message"].rpartition("?after=")[2]
    assert [line["id"] for line in lines(web.get(f"/tasks/{task_id}/events?format=ndjson&after={after}"))] == [
        event.id for event in kept
    ]


def test_a_long_stream_comes_whole(web, records) -> None:
    chunks = [b'data: {"content":"%d"}\n\n' % number for number in range(1500)]
    task_id = finished(records, chunks)
    found = lines(web.get(f"/tasks/{task_id}/events?format=ndjson"))
    assert [line["data"]["content"] for line in found[1:-1]] == [str(number) for number in range(1500)]
    assert found[-1]["event"] == "result"


@pytest.mark.parametrize("body", [b'{"content":"Hello"}', b""])
def test_only_the_answer_of_a_stream_needs_all_of_its_events(web, records, client, body: bytes) -> None:
    attempt = started(records)
    chunks = [b"%d" % number for number in range(1500)]
    records.publish(attempt, 1, chunks)
    records.succeed(attempt, 200, body)
    before = reads_of_streams(client)
    view = web.get(f"/tasks/{attempt.task_id}").json
    read = reads_of_streams(client) - before
    if body:
        assert (view["result"], read) == ({"content": "Hello"}, {"xrevrange": 1})
    else:
        assert view["events"] == [chunk.decode() for chunk in chunks]
        assert read == {"xrevrange": 1, "xrange": 4}
