from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from celery.exceptions import Reject

from graycat.engines.client import StopReason
from graycat.tasks import base
from graycat.worker.runtime import process
from tests.support.helpers import PATIENCE_S, Valkey, chunks, claimed, eventually, kinds, outcome_of, sse
from tests.support.servers import Answer, drop, hold, reply, stream
from tests.support.workers import Worker, worker_on

HELLO = sse("Hel", "lo", "")
COMPLETION = "POST /completion"


def sse_with_settings(text: str) -> list[bytes]:
    """Return a stream of one token whose final event can be gathered."""
    return [*sse(text, stop=False), b'data: {"content":"","stop":true,"generation_settings":{}}\n\n']


def test_a_task_s_answer_is_its_last_event(broker: Valkey) -> None:
    with worker_on(broker, {"POST /tokenize": reply(200, b'{"tokens": [1]}')}) as worker:
        task_id = worker.accept(kind="llm.tokenize", mode="plain", body=b'{"content": "Hi"}')
        worker.run(task_id)
        assert worker.ended(task_id) == ("succeeded", "200")
        assert worker.records.events(task_id)[-1].answer() == (200, b'{"tokens": [1]}')
        assert worker.seen.requests == [("POST", "/tokenize", b'{"content": "Hi"}')]
        assert worker.runtime.running.all() == []


@pytest.mark.parametrize("mode", ["stream", "gather", "plain"])
def test_an_engine_s_error_is_the_answer(broker: Valkey, mode: str) -> None:
    with worker_on(broker, {COMPLETION: reply(400, b'{"error": "too long"}')}) as worker:
        task_id = worker.accept(mode=mode)
        worker.run(task_id)
        assert worker.ended(task_id) == ("failed", "400")
        assert worker.records.events(task_id)[-1].answer() == (400, b'{"error": "too long"}')
        assert worker.runtime.ready


@pytest.mark.parametrize("mode", ["stream", "gather", "plain"])
def test_an_engine_s_error_names_no_path_of_its_box(broker: Valkey, mode: str) -> None:
    error = b'{"error": {"code": 500, "message": "cannot open /srv/secret/x.gguf for /my/own", "type": "x"}}'
    for answer in (reply(500, error), stream(b"data: " + error.replace(b": {", b":{").replace(b" ", b"", 1) + b"\n\n")):
        with worker_on(broker, {COMPLETION: answer}) as worker:
            task_id = worker.accept(mode=mode, body=b'{"prompt": "/my/own", "n_probs": 1, "stop": ["x"]}')
            worker.run(task_id)
            _, shown = worker.records.events(task_id)[-1].answer()
        assert json.loads(shown)["error"]["message"] == "cannot open x.gguf for /my/own"
        if mode == "plain":
            # Only a stream has an error in its middle.
            break


@pytest.mark.parametrize(
    ("mode", "nonsense"),
    [
        ("gather", b'data: {"strange": 1}\n\n'),
        ("gather", b"data: no JSON\n\n"),
        ("stream", b'data: {"error": "no object"}\n\n'),
        ("stream", b'data: {"error": {"code": null, "message": "?"}}\n\n'),
    ],
)
def test_an_answer_that_makes_no_sense_ends_the_task_at_once(broker: Valkey, mode: str, nonsense: bytes) -> None:
    # Its client would else wait until every attempt was tried and every lease had run out.
    with worker_on(broker, {COMPLETION: stream(nonsense)}) as worker:
        task_id = worker.accept(mode=mode)
        worker.run(task_id)
        assert worker.ended(task_id)[0] == "failed"


def test_bulk_work_that_was_taken_too_early_goes_back(broker: Valkey) -> None:
    with worker_on(broker, {}) as worker:
        for _ in range(2):
            worker.accept()
        task_id = worker.accept(queue="llm.batch")
        with pytest.raises(Reject, match="interactive work goes first"):
            worker.run(task_id)
        assert worker.records.get(task_id)["state"] == "queued"
        assert worker.seen.requests == []


@pytest.mark.parametrize("where", ["paused", "left"])
def test_bulk_work_does_not_wait_for_a_queue_that_its_worker_takes_nothing_from(broker: Valkey, where: str) -> None:
    with worker_on(broker, {"POST /tokenize": reply(200, b'{"tokens": [1]}')}) as worker:
        for _ in range(2):
            worker.accept()
        if where == "paused":
            worker.runtime.paused_queues = frozenset({"llm"})
        else:
            worker.runtime.left_queues.add("llm")
        task_id = worker.accept(queue="llm.batch", kind="llm.tokenize", mode="plain", body=b'{"content": "Hi"}')
        worker.run(task_id)
        assert worker.ended(task_id) == ("succeeded", "200")


def test_a_task_that_runs_here_is_left_alone_when_it_is_delivered_again(broker: Valkey) -> None:
    with worker_on(broker, {}) as worker:
        attempt = worker.claim()
        worker.client.hdel(f"graycat:task:{attempt.task_id}", "lease_ms")
        # As after an outage of the broker that was longer than the lease.
        with worker.runtime.running.track(attempt):
            worker.run(attempt.task_id)
        assert worker.records.get(attempt.task_id)["attempt"] == "1"
        assert worker.seen.requests == []


def test_a_task_without_a_record_is_dropped(broker: Valkey) -> None:
    with worker_on(broker, {}) as worker:
        worker.task().execute("nobody")
        assert worker.seen.requests == []


@pytest.mark.parametrize("arguments", [(), ("nobody",), (None,), ({}, 7)])
@pytest.mark.parametrize("kind", ["llm.completion", "sd.txt2img"])
def test_a_message_without_a_task_s_id_is_dropped(
    broker: Valkey, caplog: pytest.LogCaptureFixture, kind: str, arguments: tuple[Any, ...]
) -> None:
    """Another program may have called it so."""
    with worker_on(broker, {}) as worker, caplog.at_level(logging.INFO):
        worker.task(kind).run(*arguments)
        assert worker.seen.requests == []
    assert [record.message for record in caplog.records if "dropped" in record.message] != []


def test_a_task_that_was_cancelled_while_it_waited_never_reaches_the_engine(broker: Valkey) -> None:
    with worker_on(broker, {}) as worker:
        task_id = worker.accept()
        worker.records.cancel(task_id)
        worker.run(task_id)
        assert worker.seen.requests == []
        assert worker.ended(task_id) == ("cancelled", "499")


def test_without_an_engine_the_message_goes_back_unclaimed(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "ENGINE_WAIT_S", 0.01)
    with worker_on(broker, {}) as worker:
        task_id = worker.accept()
        worker.supervisor.suspect()
        with pytest.raises(Reject) as caught:
            worker.run(task_id)
        assert vars(caught.value)["requeue"] is True
        assert (worker.records.get(task_id)["state"], worker.records.get(task_id)["attempt"]) == ("queued", "0")


def test_an_engine_that_comes_back_in_time_gets_the_task(broker: Valkey) -> None:
    with worker_on(broker, {COMPLETION: stream(*HELLO)}) as worker:
        worker.supervisor.suspect()
        task_id = worker.accept()
        end = outcome_of(lambda: worker.run(task_id))
        worker.supervisor.step(2.0)
        end()
        assert worker.ended(task_id) == ("succeeded", "200")


@pytest.mark.parametrize("mode", ["stream", "gather", "plain"])
def test_an_engine_that_goes_away_before_it_answers_hands_the_task_back(broker: Valkey, mode: str) -> None:
    with worker_on(broker, {COMPLETION: drop}) as worker:
        task_id = worker.accept(mode=mode)
        with pytest.raises(Reject) as caught:
            worker.run(task_id)
        assert vars(caught.value)["requeue"] is True
        assert worker.ended(task_id) == ("queued", "")
        assert not worker.runtime.ready
        assert claimed(worker.records, task_id).number == 2


def test_an_engine_that_goes_away_in_the_middle_of_a_stream_fails_the_task(broker: Valkey) -> None:
    with worker_on(broker, {COMPLETION: stream(HELLO[0], then=drop)}) as worker:
        task_id = worker.accept()
        worker.run(task_id)
        assert worker.ended(task_id) == ("failed", "502")
        assert kinds(worker.records, task_id) == ["started", "chunk", "error"]
        assert b"engine_lost" in worker.records.events(task_id)[-1].answer()[1]
        assert not worker.runtime.ready


def test_a_gathered_answer_that_breaks_off_is_made_anew(broker: Valkey) -> None:
    with worker_on(broker, {COMPLETION: stream(HELLO[0], then=drop)}) as worker:
        task_id = worker.accept(mode="gather")
        with pytest.raises(Reject):
            worker.run(task_id)
        assert worker.ended(task_id) == ("queued", "")


def test_what_a_client_has_read_is_never_sent_again(broker: Valkey) -> None:
    with worker_on(broker, {COMPLETION: stream(*HELLO)}, lease_s=0.02) as worker:
        # Its worker was killed after the first event.
        first = worker.claim()
        worker.records.publish(first, 1, [HELLO[0]])
        eventually(lambda: int(worker.records.get(first.task_id)["lease_ms"]) < clock_ms(worker))
        worker.run(first.task_id)
        assert chunks(worker.records, first.task_id).count(HELLO[0]) == 1
        assert worker.records.events(first.task_id)[-1].terminal


def killed_after(worker: Worker, published: list[bytes], **changes: Any) -> str:
    """Return a task whose worker was killed when it had published some chunks; it may be claimed again."""
    first = worker.claim(**changes)
    worker.records.publish(first, 1, published)
    eventually(lambda: int(worker.records.get(first.task_id)["lease_ms"]) < clock_ms(worker))
    return first.task_id


DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("kind", "mode", "published", "answer"),
    [
        ("llm.completion", "stream", HELLO, b""),
        ("llm.chat", "stream", [HELLO[0], DONE], b""),
        ("llm.completion", "live", sse_with_settings("Hello"), b'"content":"Hello"'),
    ],
)
def test_an_answer_whose_last_event_is_published_needs_no_engine(
    broker: Valkey, kind: str, mode: str, published: list[bytes], answer: bytes
) -> None:
    with worker_on(broker, {}, lease_s=0.02) as worker:
        task_id = killed_after(worker, published, kind=kind, mode=mode)
        worker.run(task_id)
        assert worker.ended(task_id) == ("succeeded", "200")
        assert worker.seen.requests == []
        assert chunks(worker.records, task_id) == published
        assert answer in worker.records.events(task_id)[-1].data


def test_a_call_that_breaks_behind_its_last_event_has_succeeded(broker: Valkey) -> None:
    with worker_on(broker, {COMPLETION: stream(*HELLO, then=drop)}) as worker:
        task_id = worker.accept()
        worker.run(task_id)
        assert worker.ended(task_id) == ("succeeded", "200")


def test_a_task_that_is_looked_at_by_its_id_begins_anew(broker: Valkey) -> None:
    with worker_on(broker, {"POST /v1/chat/completions": stream(HELLO[1], DONE)}, lease_s=0.02) as worker:
        task_id = killed_after(worker, HELLO[:1], kind="llm.chat", shown={})
        worker.run(task_id)
        assert worker.ended(task_id) == ("succeeded", "200")
        assert kinds(worker.records, task_id) == ["started", "restarted", "chunk", "chunk", "result"]
        assert chunks(worker.records, task_id) == [HELLO[1], DONE]


def test_a_task_whose_engine_goes_away_in_the_middle_begins_anew(broker: Valkey) -> None:
    chat = "POST /v1/chat/completions"
    with worker_on(broker, {chat: stream(HELLO[0], then=drop)}) as worker:
        task_id = worker.accept(kind="llm.chat", shown={})
        with pytest.raises(Reject):
            worker.run(task_id)
        assert worker.ended(task_id) == ("queued", "")
        worker.seen.answers[chat] = stream(HELLO[1], DONE)
        worker.raise_engine()
        worker.run(task_id)
        assert chunks(worker.records, task_id) == [HELLO[1], DONE]


def clock_ms(worker: Worker) -> float:
    seconds, micros = worker.client.time()
    return float(seconds * 1000 + micros / 1000)


#: How a call is stopped, and how its task ends.
STOPS = [
    (StopReason.CANCELLED, "cancelled", "499"),
    (StopReason.TIMED_OUT, "failed", "504"),
    (StopReason.STALE, "running", ""),
]


@pytest.mark.parametrize(("reason", "state", "status"), STOPS)
@pytest.mark.parametrize(
    ("mode", "answer"), [("plain", hold), ("gather", hold), ("stream", hold), ("stream", stream(HELLO[0], then=hold))]
)
def test_a_task_that_is_stopped_ends_when_the_engine_is_free(
    broker: Valkey, mode: str, answer: Answer, reason: StopReason, state: str, status: str
) -> None:
    with worker_on(broker, {COMPLETION: answer}) as worker:
        task_id = worker.accept(mode=mode)
        end = worker.begin(task_id)
        assert worker.runtime.running.stop(task_id, reason)
        end()
        assert worker.ended(task_id) == (state, status)
        assert worker.seen.hung_up.wait(PATIENCE_S)
        assert worker.runtime.ready
        assert worker.runtime.running.all() == []


def test_a_stream_notices_the_cancel_mark_by_itself(broker: Valkey) -> None:
    with worker_on(broker, {}) as worker:
        task_id = worker.accept()

        def answer(handler) -> None:
            worker.records.cancel(task_id)
            stream(HELLO[0], then=hold)(handler)

        worker.seen.answers[COMPLETION] = answer
        worker.run(task_id)
        assert worker.ended(task_id) == ("cancelled", "499")
        assert worker.seen.hung_up.wait(PATIENCE_S)


def test_an_attempt_that_was_taken_over_writes_nothing(broker: Valkey) -> None:
    with worker_on(broker, {}) as worker:
        task_id = worker.accept()

        def answer(handler) -> None:
            worker.client.hset(f"graycat:task:{task_id}", "attempt", 2)
            stream(*HELLO)(handler)

        worker.seen.answers[COMPLETION] = answer
        worker.run(task_id)
        assert worker.ended(task_id) == ("running", "")
        assert kinds(worker.records, task_id) == ["started"]


def test_each_task_leaves_a_line_without_what_was_said(broker: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with worker_on(broker, {COMPLETION: stream(*sse("my secret answer"))}) as worker:
        task_id = worker.accept(body=b'{"prompt": "my secret diary"}', request_id="r-42")
        worker.run(task_id)
    (record,) = [record for record in caplog.records if record.message == "task ended"]
    fields = vars(record)
    assert (fields["task_id"], fields["outcome"], fields["request_id"]) == (task_id, "succeeded", "r-42")
    assert "secret" not in json.dumps([vars(r) for r in caplog.records], default=str)


@pytest.mark.parametrize(
    ("kind", "argument"),
    [("sd.txt2img", "image"), ("llm.completion", "image"), ("sd.txt2img", "text"), ("llm.chat", 7)],
)
def test_what_another_program_has_sent_to_the_wrong_worker_changes_nothing(
    broker: Valkey, kind: str, argument: Any
) -> None:
    with worker_on(broker, {}) as worker:
        tasks = {"text": worker.accept(), "image": worker.accept(kind="sd.txt2img", queue="sd")}
        worker.task(kind).execute(tasks.get(argument, argument))
        assert [worker.ended(task_id) for task_id in tasks.values()] == [("queued", "")] * 2
        assert worker.seen.requests == []


def test_a_worker_without_an_engine_drops_tasks_that_need_one(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    with worker_on(broker, {}) as worker:
        task_id = worker.accept()
        monkeypatch.setattr(process, "engine", None)
        worker.task().execute(task_id)
        assert worker.ended(task_id) == ("queued", "")
