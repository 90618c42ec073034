from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from graycat.errors import EngineError, EngineLost
from graycat.queue.models import Attempt
from tests.support.helpers import AT_ONCE_S, Stopwatch, outcome_of, sse

HELLO = sse("Hel", "lo", "")


def streaming(web):
    """Return how to wait for the response to a streamed completion."""
    return outcome_of(lambda: web.post("/completion", json={"prompt": "Hi", "stream": True}))


def test_a_whole_answer_is_the_engine_s_bytes(web, take, records) -> None:
    response = outcome_of(lambda: web.post("/tokenize", data=b'{"content":"Hi"}'))
    attempt = take("llm.quick")
    records.succeed(attempt, 200, b'{"tokens" : [1,2]}')
    assert (response().status_code, response().data) == (200, b'{"tokens" : [1,2]}')
    assert response().content_type == "application/json; charset=utf-8"
    assert records.get(attempt.task_id)["request_id"] == response().headers["X-Request-ID"]


@pytest.mark.parametrize("body", [{"prompt": "Hi"}, {"prompt": "Hi", "stream": True}, {"prompt": ["a", "b"]}])
def test_an_error_before_the_first_event_has_its_own_status(web, take, records, body) -> None:
    response = outcome_of(lambda: web.post("/completion", json=body))
    records.fail(take(), EngineError(400, b'{"error":{"code":400}}'))
    assert (response().status_code, response().data) == (400, b'{"error":{"code":400}}')


def test_each_event_is_one_chunk(web, take, records) -> None:
    response = streaming(web)
    attempt = take()
    records.publish(attempt, 1, HELLO[:2])
    records.publish(attempt, 3, HELLO[2:])
    records.succeed(attempt, 200, b"")
    assert response().status_code == 200
    assert response().content_type == "text/event-stream"
    assert (response().headers["Cache-Control"], response().headers["X-Accel-Buffering"]) == ("no-cache", "no")
    assert list(response().response) == HELLO


def test_an_event_is_passed_on_before_the_next_is_made(web, take, records) -> None:
    response = streaming(web)
    attempt = take()
    records.publish(attempt, 1, HELLO[:1])
    chunks: Iterator[bytes] = iter(response().response)
    for number in (2, 3):
        assert next(chunks) == HELLO[number - 2]
        records.publish(attempt, number, [HELLO[number - 1]])
    records.succeed(attempt, 200, b"")
    assert list(chunks) == [HELLO[2]]


def test_a_client_that_waits_is_kept_alive_by_blank_lines(web_with, take, records) -> None:
    response = streaming(web_with(keepalive_s=0.05))
    attempt = take()
    clock = Stopwatch()
    chunks: Iterator[bytes] = iter(response().response)
    assert response().status_code == 200
    assert [next(chunks) for _ in range(3)] == [b"\n"] * 3
    assert clock.seconds < AT_ONCE_S
    records.publish(attempt, 1, HELLO)
    records.succeed(attempt, 200, b"")
    assert [chunk for chunk in chunks if chunk != b"\n"] == HELLO


@pytest.mark.parametrize("begun", [False, True])
def test_an_error_in_the_middle_is_an_event(web_with, take, records, begun: bool) -> None:
    response = streaming(web_with(keepalive_s=0.05))
    attempt = take()
    chunks: Iterator[bytes] = iter(response().response)
    assert next(chunks) == b"\n"
    if begun:
        records.publish(attempt, 1, HELLO[:1])
    records.fail(attempt, EngineLost())
    *before, last = [chunk for chunk in chunks if chunk != b"\n"]
    assert before == HELLO[:1] * begun
    assert last.startswith(b'data: {"error"')
    assert last.endswith(b"}\n\n")
    assert json.loads(last.removeprefix(b"data: "))["error"]["type"] == "engine_lost"


def test_a_cancelled_stream_ends_with_an_error_event(web, take, records) -> None:
    response = streaming(web)
    attempt = take()
    records.publish(attempt, 1, HELLO[:1])
    chunks: Iterator[bytes] = iter(response().response)
    next(chunks)
    records.finish_cancelled(attempt)
    (last,) = chunks
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == 499


@pytest.mark.parametrize("read", [0, 1])
def test_a_response_that_is_closed_early_cancels_its_task(web, take, records, read: int) -> None:
    response = streaming(web)
    attempt = take()
    records.publish(attempt, 1, HELLO[:2])
    chunks: Iterator[bytes] = iter(response().response)
    assert [next(chunks) for _ in range(read)] == HELLO[:read]
    response().close()
    assert records.get(attempt.task_id)["cancel"] == "cancel"


def test_a_response_that_was_read_to_its_end_cancels_nothing(web, take, records) -> None:
    response = streaming(web)
    attempt = take()
    records.publish(attempt, 1, HELLO)
    records.succeed(attempt, 200, b"")
    list(response().response)
    response().close()
    record = records.get(attempt.task_id)
    assert (record["state"], "cancel" in record) == ("succeeded", False)


def test_a_request_on_an_unserved_queue_expires(web_with, records) -> None:
    response = web_with(queue_ttl_s=0.05).post("/completion", json={"prompt": "Hi"})
    assert (response.status_code, response.json["error"]["type"]) == (503, "task_expired")


def test_an_expired_task_s_answer_has_retry_after(web_with) -> None:
    response = web_with(queue_ttl_s=0.05).post("/completion", json={"prompt": "Hi"})
    assert response.headers["Retry-After"] == "5"


def test_many_streams_do_not_mix(web, take, records) -> None:
    responses = [streaming(web) for _ in range(6)]
    attempts = [take() for _ in responses]
    start = threading.Barrier(len(attempts))

    def work(attempt: Attempt) -> None:
        start.wait()
        for number in range(1, 21):
            records.publish(attempt, number, sse(f"{attempt.task_id}:{number}", stop=number == 20))
        records.succeed(attempt, 200, b"")

    waits = [outcome_of(partial(work, attempt)) for attempt in attempts]
    texts = [b"".join(response().response) for response in responses]
    for wait in waits:
        wait()
    for attempt in attempts:
        (mine,) = [text for text in texts if attempt.task_id.encode() in text]
        wanted = [sse(f"{attempt.task_id}:{n}", stop=n == 20)[0] for n in range(1, 21)]
        assert mine == b"".join(wanted)
