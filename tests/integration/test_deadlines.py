"""Both clocks of a task: what never starts expires, what runs too long is stopped, and the caller is told."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import NewHome
from tests.support.processes import SLACK_S, eventually
from tests.support.stack import REQUEST_S, Stack, running
from tests.support.unity import Answer, ErrorAnswer, V2Reader, V3Reader, read_chunks, send_post

ENDLESS: dict[str, Any] = {"prompt": "1, 2, 3,", "n_predict": 4000, "ignore_eos": True}


@pytest.fixture(scope="module")
def hasty(new_home: NewHome) -> Iterator[Stack]:
    """Yield a stack with one slot and short deadlines."""
    clocks = {"GRAYCAT_QUEUE_TTL_S": "6", "GRAYCAT_EXEC_TIMEOUT_S": "12", "GRAYCAT_KEEPALIVE_S": "0.5"}
    with running(Stack(new_home(), env={**clocks, "GRAYCAT_LLM_SLOTS": "1"})) as started:
        yield started


def outcome(stack: Stack, reader: V3Reader | V2Reader, body: dict[str, Any], request_id: str) -> Answer | ErrorAnswer:
    """Return what a game gets: its answer, or an error that it can read."""
    with send_post(stack.url, "/completion", body, stack.token, {"X-Request-ID": request_id}) as connection:
        try:
            return reader.read(connection)
        except ErrorAnswer as error:
            return error


def assert_error(given: Answer | ErrorAnswer, status: int, kind: str) -> None:
    """Check an error's status and type."""
    assert isinstance(given, ErrorAnswer)
    assert (given.status, given.body["error"]["code"], given.body["error"]["type"]) == (status, status, kind)


def test_both_deadlines_are_kept_and_told(hasty: Stack) -> None:
    with ThreadPoolExecutor(4) as games:
        late = games.submit(outcome, hasty, V3Reader(), ENDLESS | {"stream": True}, "late")
        eventually(lambda: hasty.record("late").get("state") == "running", SLACK_S)
        calls: dict[str, tuple[V3Reader | V2Reader, bool]] = {}
        calls |= {"v3": (V3Reader(), True), "v2": (V2Reader(), True), "whole": (V3Reader(), False)}
        waiting = {
            name: games.submit(outcome, hasty, reader, ENDLESS | {"stream": stream}, name)
            for name, (reader, stream) in calls.items()
        }
        for answer in waiting.values():
            assert_error(answer.result(REQUEST_S), 503, "task_expired")
        assert not late.done()
        assert_error(late.result(REQUEST_S), 504, "task_timeout")
    assert {hasty.record(name)["state"] for name in waiting} == {"expired"}
    assert {hasty.record(name)["attempt"] for name in waiting} == {"0"}
    assert (hasty.record("late")["state"], hasty.record("late")["status"]) == ("failed", "504")
    eventually(lambda: hasty.busy() == 0, SLACK_S)


def test_a_whole_answer_that_takes_too_long_is_an_error_status(hasty: Stack) -> None:
    assert_error(outcome(hasty, V3Reader(), ENDLESS | {"stream": False}, "long"), 504, "task_timeout")


def test_a_stream_that_waits_is_kept_alive_with_blank_lines_of_their_own(hasty: Stack) -> None:
    with send_post(hasty.url, "/completion", ENDLESS | {"stream": True}, hasty.token) as busy:
        eventually(lambda: hasty.busy() == 1, SLACK_S)
        body = {"prompt": "1, 2,", "n_predict": 2, "stream": True}
        with send_post(hasty.url, "/completion", body, hasty.token, {"X-Request-ID": "waits"}) as connection:
            # Committed to its status and kept alive once, then the slot is freed.
            assert connection.recv(1, 2) == b"H"
            busy.close()
            chunks = read_chunks(connection)
    assert chunks[0] == b"\n"
    # An engine that has much to do may let more of them come between its tokens.
    events = [chunk for chunk in chunks if chunk != b"\n"]
    assert len(events) == 3, events
    assert all(event.startswith(b"data: ") for event in events)
