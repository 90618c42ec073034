"""A client that leaves takes its work along: the engine is free within a second, and nobody else notices."""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from bench.hangups import GOAL_STEPS, LEAVES, Left, measure, others_streaming
from tests.support.helpers import outcome_of
from tests.support.processes import eventually
from tests.support.stack import Client, Stack
from tests.support.unity import ReadBuffer, V3Reader, read_head, send_post

#: Seconds from a hang-up until the engine is idle, the median of many mid-stream. An answer that nobody stops takes
#: minutes; ``bench.hangups`` measures how soon it is really.
FREE_AFTER_S = 10.0
#: The same for one alone.
ONE_FREE_AFTER_S = 30.0
#: A prompt is computed in batches, and the engine looks once a second whether anybody still waits.
FREE_AFTER_PROMPT_S = 120.0
#: Seconds that anything gets which takes a second on an idle machine.
PATIENCE_S = 120.0
#: Clients that leave in the same way, until one of them has its slot freed within GOAL_STEPS.
TRIES = 10

ENDLESS: dict[str, Any] = {"prompt": "1, 2, 3,", "n_predict": 4000, "ignore_eos": True, "temperature": 0}


class Game:
    """A request that can be watched by its record and hung up."""

    def __init__(self, stack: Stack, body: dict[str, Any]) -> None:
        self._stack = stack
        self.id = uuid4().hex
        self.connection = send_post(stack.url, "/completion", body, stack.token, {"X-Request-ID": self.id})

    @property
    def record(self) -> dict[str, str]:
        """Return its task's record."""
        return self._stack.record(self.id)

    def wait_for(self, state: str) -> None:
        """Return when its task is in this state."""
        eventually(lambda: self.record.get("state") == state, PATIENCE_S)

    def read_some(self) -> None:
        """Return when a first piece of its answer has come."""
        buffer = ReadBuffer(self.connection, 4096)
        assert read_head(buffer)[0] == 200
        assert buffer.take(4096)

    def __enter__(self) -> Game:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


def work_of(pid: int) -> dict[str, float]:
    """Return the seconds in which each thread of a process has had a core so far, or waited for one.

    An engine is nice: beside other tests it may wait for a good while, and is not idle.
    """
    work = {}
    for folder in Path(f"/proc/{pid}/task").iterdir():
        # Ended since it was listed.
        with contextlib.suppress(OSError):
            ran, waited, _ = (folder / "schedstat").read_text().split()
            work[folder.name] = (int(ran) + int(waited)) / 1e9
    return work


def seconds_until_idle(stack: Stack, limit_s: float) -> float:
    """Return how long the engine still works, without asking it: questions keep it from noticing a hang-up."""
    pid = stack.engine_pid()
    assert pid is not None
    started = time.monotonic()

    def idle() -> bool:
        before = work_of(pid)
        since = time.monotonic()
        eventually(lambda: time.monotonic() - since > 0.2, 1)
        worked = sum(work - before.get(thread, 0.0) for thread, work in work_of(pid).items())
        return worked < 0.2 * 0.2

    eventually(idle, limit_s + 10)
    return time.monotonic() - started - 0.2


@pytest.fixture(autouse=True)
def idle_engine(stack: Stack) -> Iterator[None]:
    """Begin and end with an idle engine."""
    eventually(lambda: stack.busy() == 0, PATIENCE_S)
    yield
    eventually(lambda: stack.busy() == 0, PATIENCE_S)


def test_a_hang_up_in_a_stream_frees_the_engine_within_a_second(stack: Stack) -> None:
    times, games = [], []
    for _ in range(20):
        with Game(stack, ENDLESS | {"stream": True}) as game:
            game.read_some()
        left = time.monotonic()
        eventually(lambda: stack.busy() == 0, PATIENCE_S)
        times.append(time.monotonic() - left)
        games.append(game)
    assert statistics.median(times) < FREE_AFTER_S, times
    for game in games:
        game.wait_for("cancelled")


def test_a_hang_up_in_a_whole_answer_frees_the_engine(stack: Stack) -> None:
    with Game(stack, ENDLESS | {"stream": False}) as game:
        game.wait_for("running")
        eventually(lambda: stack.busy() == 1, PATIENCE_S)
    left = time.monotonic()
    eventually(lambda: stack.busy() == 0, PATIENCE_S)
    assert time.monotonic() - left < ONE_FREE_AFTER_S
    game.wait_for("cancelled")


def test_a_connection_that_is_reset_counts_as_a_hang_up(stack: Stack) -> None:
    with Game(stack, ENDLESS | {"stream": True}) as game:
        game.read_some()
        # Close with RST, as a game does that crashes.
        game.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    left = time.monotonic()
    eventually(lambda: stack.busy() == 0, PATIENCE_S)
    assert time.monotonic() - left < ONE_FREE_AFTER_S
    game.wait_for("cancelled")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_hang_up_while_a_long_prompt_is_computed_frees_the_engine(stack: Stack, stream: bool) -> None:
    # Ids at random: no prompt before it lies in the cache. Computed to its end it takes about twenty seconds.
    tokens = [*(1000 + os.urandom(2)[0] * 150 + n % 200 for n in range(5000))]
    with Game(stack, {"prompt": tokens, "n_predict": 1, "stream": stream}) as game:
        game.wait_for("running")
        eventually(lambda: stack.busy() == 1, PATIENCE_S)
    assert seconds_until_idle(stack, FREE_AFTER_PROMPT_S) < FREE_AFTER_PROMPT_S
    game.wait_for("cancelled")
    assert stack.busy() == 0


def test_a_hang_up_in_an_answer_that_cannot_be_streamed_frees_the_engine(stack: Stack) -> None:
    with Game(stack, ENDLESS | {"return_tokens": True, "stream": False}) as game:
        game.wait_for("running")
        eventually(lambda: stack.busy() == 1, PATIENCE_S)
    assert seconds_until_idle(stack, FREE_AFTER_PROMPT_S) < FREE_AFTER_PROMPT_S
    game.wait_for("cancelled")


def test_a_hang_up_beside_other_streams_ends_a_call_within_a_few_steps_of_the_engine(stack: Stack) -> None:
    with others_streaming(stack):
        for leaves in LEAVES:
            # Not in seconds: on a busy machine a step may take some. The long prompt alone would take forty steps. And
            # the best of several: while web or the worker waits for a core, the engine may have one.
            left: list[Left] = []
            while not left or (left[-1].steps > GOAL_STEPS and len(left) < TRIES):
                left += measure(stack, leaves, 1)
            assert left[-1].steps <= GOAL_STEPS, (leaves, left)


def test_a_neighbour_of_hang_ups_has_its_full_answer(stack: Stack, engine: Client) -> None:
    body = {"prompt": "a b c d e f", "n_predict": 20, "temperature": 0, "seed": 1}
    expected = engine.post("/completion", body).json()["content"]
    with Game(stack, body | {"stream": True}) as neighbour:
        # It reads all the while, as a game does: what had come by the end could be more than one of its reads takes.
        answer = outcome_of(lambda: V3Reader().read(neighbour.connection))
        for _ in range(5):
            with Game(stack, ENDLESS | {"stream": True}) as game:
                game.read_some()
        assert answer().content == expected


def test_a_queued_request_whose_client_leaves_never_reaches_the_engine(stack: Stack, engine: Client) -> None:
    def computed() -> float:
        lines = engine.get("/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("llamacpp:prompt_tokens_total "))

    with ExitStack() as busy:
        for _ in range(4):
            busy.enter_context(Game(stack, ENDLESS | {"stream": True})).wait_for("running")
        before = computed()
        with Game(stack, {"prompt": [1000 + n for n in range(500)], "n_predict": 1, "stream": True}) as queued:
            queued.wait_for("queued")
        queued.wait_for("cancelled")
    eventually(lambda: stack.busy() == 0, PATIENCE_S)
    # The slots are free, so whatever is queued runs before this.
    with Game(stack, {"prompt": "1, 2,", "n_predict": 1}) as last:
        last.wait_for("succeeded")
    assert (queued.record["attempt"], queued.record["status"]) == ("0", "499")
    assert "started_ms" not in queued.record
    assert computed() - before < 100


def test_queued_requests_run_in_their_order_once_a_slot_is_free(stack: Stack) -> None:
    with ExitStack() as waiting:
        busy = [waiting.enter_context(Game(stack, ENDLESS | {"stream": True})) for _ in range(4)]
        for game in busy:
            game.wait_for("running")
        queued = []
        for _ in range(3):
            queued.append(waiting.enter_context(Game(stack, {"prompt": "1, 2,", "n_predict": 1, "stream": True})))
            queued[-1].wait_for("queued")
        busy[0].connection.close()
        answers = [V3Reader().read(game.connection) for game in queued]
        assert all(answer.events[-1]["stop"] for answer in answers)
        started = [int(game.record["started_ms"]) for game in queued]
    assert started == sorted(started)
