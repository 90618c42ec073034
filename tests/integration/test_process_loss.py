"""A worker or the broker is killed: work is done again or ends clearly, and nothing is left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pytest_celery import CeleryTestWorker, RedisTestBroker

from tests.conftest import NewHome
from tests.support.processes import SLACK_S, eventually, quickly
from tests.support.stack import Stack, running
from tests.support.unity import Answer, ErrorAnswer, V3Reader, send_post

COUNT: dict[str, Any] = {"prompt": "1, 2, 3, 4,", "n_predict": 40, "temperature": 0, "seed": 1}
#: Seconds until a new worker has its engine, and until what the old one held is run again.
BACK_S = 180.0
#: Seconds in which a web process tells that its broker is gone.
TOLD_S = 4.0


@pytest.fixture(scope="module")
def parts(new_home: NewHome) -> Iterator[Stack]:
    """Yield a stack of separate processes, whose dead workers are noticed within two seconds."""
    with running(Stack(new_home(), separately=True, env={"GRAYCAT_LEASE_S": "2"})) as started:
        yield started


@pytest.fixture(scope="module")
def celery_stack(parts: Stack) -> Stack:
    """Return the stack whose processes the nodes are."""
    return parts


@pytest.fixture(autouse=True)
def all_well(parts: Stack) -> None:
    """Begin with every process alive, whatever the test before has left."""
    parts.restart_dead()


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    """Yield threads that wait for answers."""
    with ThreadPoolExecutor(4) as pool:
        yield pool


def stream(stack: Stack, body: dict[str, Any]) -> Answer | ErrorAnswer:
    """Return what a game gets: a whole answer, or an error that it can read."""
    with send_post(stack.url, "/completion", body | {"stream": True}, stack.token) as connection:
        try:
            return V3Reader().read(connection)
        except ErrorAnswer as error:
            return error


def test_a_killed_workers_blocking_call_is_answered_by_the_next_worker(
    parts: Stack, callers: ThreadPoolExecutor, celery_worker: CeleryTestWorker
) -> None:
    answer = callers.submit(parts.client().post, "/completion", COUNT)
    eventually(lambda: parts.busy() == 1, SLACK_S)
    celery_worker.kill()
    eventually(lambda: parts.engine_pid() is None, SLACK_S)
    assert not answer.done()
    celery_worker.restart()
    given = answer.result(BACK_S)
    expected = parts.engine().post("/completion", COUNT).json()["content"]
    assert (given.status_code, given.json()["content"]) == (200, expected)


def test_a_killed_workers_stream_has_an_end_and_no_second_beginning(
    parts: Stack, callers: ThreadPoolExecutor, celery_worker: CeleryTestWorker
) -> None:
    expected = parts.client().post("/completion", COUNT).json()["content"]
    answer = callers.submit(stream, parts, COUNT)
    eventually(lambda: ["first_event_ms" in record for record in parts.live()] == [True], SLACK_S)
    celery_worker.kill()
    celery_worker.restart()
    assert_whole_or_error(answer.result(BACK_S), expected)


def assert_whole_or_error(given: Answer | ErrorAnswer, expected: str) -> None:
    """Check that a stream was whole, or ended in an error event of ours."""
    if isinstance(given, ErrorAnswer):
        assert given.status in (502, 503, 504)
        assert set(given.body["error"]) == {"code", "message", "type"}
    else:
        assert given.content == expected


def test_without_a_broker_web_says_so_at_once(parts: Stack) -> None:
    pid = parts.server_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    # The server's guardian tells of its death by its own.
    eventually(lambda: "broker" not in parts.processes(), SLACK_S)
    client = parts.client()
    body = {"prompt": "1, 2,", "n_predict": 2}
    calls = [("/completion", body), ("/completion", body | {"stream": True}), ("/tokenize", {"content": "Hi"})]
    for path, sent in [*calls, ("/props", None), ("/health", None)]:
        answer = quickly(lambda path=path, sent=sent: client.post(path, sent), TOLD_S)  # type: ignore[misc]
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "broker_unavailable")
        assert answer.headers["Retry-After"].isdigit()
    ready = client.get("/ready")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert client.get("/health").status_code == 200
    parts.restart_dead()
    assert client.post("/completion", body).status_code == 200


def test_work_under_way_outlives_a_broker_that_is_killed_and_restarted(
    parts: Stack, callers: ThreadPoolExecutor, celery_broker: RedisTestBroker
) -> None:
    expected = parts.client().post("/completion", COUNT).json()["content"]
    whole = callers.submit(parts.client().post, "/completion", COUNT)
    streamed = callers.submit(stream, parts, COUNT)
    eventually(lambda: parts.busy() == 2, SLACK_S)
    celery_broker.kill()
    eventually(lambda: parts.server_pid() is None, SLACK_S)
    celery_broker.restart()
    worker = parts.processes()["llm"]
    given = whole.result(BACK_S)
    assert given.status_code in (200, 502, 503)
    assert given.status_code != 200 or given.json()["content"] == expected
    assert_whole_or_error(streamed.result(BACK_S), expected)
    eventually(parts.ready, BACK_S)
    assert parts.processes()["llm"] == worker, "the worker gave up"
    assert parts.client().post("/completion", COUNT).json()["content"] == expected


def test_a_queued_request_outlives_a_broker_that_is_killed_and_restarted(
    parts: Stack, callers: ThreadPoolExecutor, celery_broker: RedisTestBroker, celery_worker: CeleryTestWorker
) -> None:
    expected = parts.client().post("/completion", COUNT).json()["content"]
    celery_worker.kill()
    queued = callers.submit(parts.client().post, "/completion", COUNT)
    eventually(lambda: parts.redis().llen("llm") == 1, SLACK_S)
    celery_broker.kill()
    celery_broker.restart()
    celery_worker.restart()
    given = queued.result(BACK_S)
    assert (given.status_code, given.json()["content"]) == (200, expected)
