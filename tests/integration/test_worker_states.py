"""What /ready, a Unity client's probe and Celery's ping say in each state of a worker: one real worker, in turn."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from pytest_celery import CeleryTestWorker, RedisTestBroker

from tests.support.celery_nodes import ProcessContainer
from tests.support.files import BLOCK, Served, gguf
from tests.support.processes import SLACK_S, eventually
from tests.support.servers import Handler, Seen, http_server
from tests.support.stack import START_S, STOP_S
from tests.support.supervised import TOLD_S, WORKER, Supervised

CONTENT = gguf(40 * BLOCK)
#: Seconds of silence after which an engine is started anew; it gets half as long again for its last answer.
KILL_AFTER_S = 6.0


class Origin:
    """A server with a model that stops halfway until it is told to go on."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.served = Served(CONTENT, before=self._pause)

    def _pause(self, _: Handler, offset: int) -> None:
        if offset >= len(CONTENT) // 2:
            self.go_on.wait(START_S)


@pytest.fixture(scope="module")
def origin() -> Iterator[tuple[Origin, Seen]]:
    made = Origin()
    with http_server({"GET /m.gguf": made.served}) as seen:
        yield made, seen
        made.go_on.set()


@pytest.fixture(scope="module")
def celery_stack(tmp_path_factory: pytest.TempPathFactory, origin: tuple[Origin, Seen]) -> Iterator[Supervised]:
    """Yield a stack whose worker downloads its model."""
    home = tmp_path_factory.mktemp("states") / "home"
    options = f"--model {{model}} --loads-until {home / 'loads'} --fails-if {home / 'fails'} --mute-if {home / 'mute'}"
    options += " --interval 0.02"
    env = {"MODEL_URL": f"{origin[1].url}/m.gguf", "GRAYCAT_ENGINE_KILL_AFTER_S": str(KILL_AFTER_S)}
    started = Supervised(home, options, **env)
    try:
        yield started
    finally:
        started.kill_all()


@pytest.fixture(scope="module")
def stack(celery_stack: Supervised, celery_broker: RedisTestBroker) -> Supervised:
    """Return the stack when its worker has begun to download its model."""
    celery_stack.begin()
    celery_stack.launch("llm")
    return celery_stack


def assert_told(stack: Supervised, state: str, reason: str, ping: str) -> None:
    """Check that every probe tells of a worker that takes nothing, and why."""
    eventually(lambda: stack.row().get("state") == state and not stack.row()["consuming"], TOLD_S)
    body = stack.ready_body()
    assert body["ready"] is False
    assert f"{WORKER}{reason}" in body["reason"]
    # This answer is from the fleet as it was up to half a second ago.
    client = stack.client()
    eventually(lambda: client.post("/health").status_code == 503, TOLD_S)
    # An engine that dies at each start is loading now and then.
    eventually(lambda: stack.ping().startswith(f"pong, but takes nothing: {ping}"), TOLD_S)


def assert_well(stack: Supervised) -> None:
    """Check that every probe tells of a worker that takes tasks, and that it does."""
    stack.wait_until_consuming()
    eventually(lambda: stack.client().post("/health").status_code == 200, TOLD_S)
    row = stack.row()
    assert (row["state"], row["paused"], row["trouble"]) == ("ready", False, "")
    assert stack.ping() == "pong"
    assert stack.client().post("/completion", {"prompt": "x", "n_predict": 2}).json()["tokens_predicted"] == 2


@pytest.fixture
def well(stack: Supervised, origin: tuple[Origin, Seen]) -> Supervised:
    """Return the stack when its model is here and its engine loaded, whatever ran before."""
    origin[0].go_on.set()
    (stack.home / "loads").touch()
    assert_well(stack)
    return stack


def test_two_workers_at_once_download_once_and_a_killed_one_goes_on(
    stack: Supervised, origin: tuple[Origin, Seen]
) -> None:
    server, seen = origin
    eventually(lambda: "downloading 50 %" in stack.ready_body()["reason"], TOLD_S)
    assert_told(stack, "downloading", ": downloading 50 %", "its engine is downloading (downloading 50 %)")
    stack.launch("second", f"graycat worker llm --name {WORKER}2")
    eventually(lambda: stack.row(f"{WORKER}2").get("state") == "downloading", START_S)
    assert len(seen.requests) == 1
    stack.kill("llm")
    # What the one has begun the other one ends, from where it was cut; a worker that is back finds it done.
    server.go_on.set()
    eventually(lambda: stack.row(f"{WORKER}2").get("state") == "loading", START_S)
    asked = [headers.get("range", "") for headers in seen.headers]
    assert (asked[0], len(asked)) == ("", 2)
    assert int(asked[1].removeprefix("bytes=").rstrip("-")) > 0
    os.kill(
        next(pid for pid, line in stack.command_lines().items() if line.endswith(f"--name {WORKER}2")), signal.SIGTERM
    )
    assert stack.wait("second", STOP_S) == 0
    assert (stack.home / "models" / "text" / "m.gguf").read_bytes() == CONTENT
    stack.launch("llm")
    eventually(lambda: stack.row().get("state") == "loading", START_S)
    assert len(seen.requests) == 2


def test_an_engine_that_loads_is_no_trouble_and_takes_nothing(stack: Supervised) -> None:
    eventually(lambda: stack.row().get("state") == "loading", TOLD_S)
    assert (stack.row()["consuming"], stack.row()["trouble"]) == (False, "")
    assert "no worker consumes llm" in stack.ready_body()["reason"]
    assert stack.client().post("/health").status_code == 503
    assert stack.ping() == "pong, but takes nothing: its engine is loading"
    (stack.home / "loads").touch()
    assert_well(stack)


@contextmanager
def dead(stack: Supervised) -> Iterator[None]:
    (stack.home / "fails").touch()
    stack.kill_engine()
    eventually(lambda: stack.row().get("last_failure", "").endswith("(exit status 1)"), TOLD_S)
    assert "the model cannot be loaded" in (stack.home / "log" / "llm-engine.log").read_text()
    try:
        yield
    finally:
        (stack.home / "fails").unlink()


@contextmanager
def stuck(stack: Supervised) -> Iterator[None]:
    body = {"kind": "llm.completion", "input": {"prompt": "goes on", "n_predict": 100}}
    task = stack.client().post("/tasks", body).json()["id"]
    eventually(lambda: stack.client().get(f"/tasks/{task}").json()["state"] == "running", TOLD_S)
    stack.signal_engine(signal.SIGSTOP)
    yield
    # It is not continued: the worker starts another one, which does what this one could not.
    eventually(lambda: stack.client().get(f"/tasks/{task}").json()["state"] == "succeeded", START_S)


@contextmanager
def paused(stack: Supervised) -> Iterator[None]:
    assert stack.graycat(f"worker pause {WORKER}").returncode == 0
    try:
        yield
    finally:
        assert stack.graycat(f"worker resume {WORKER}").returncode == 0


@contextmanager
def paused_over_a_broker_s_restart(stack: Supervised) -> Iterator[None]:
    with paused(stack):
        broker = RedisTestBroker(ProcessContainer(stack, "broker"))
        broker.kill()
        broker.restart()
        eventually(lambda: stack.row().get("paused"), TOLD_S)
        yield


@contextmanager
def left(stack: Supervised) -> Iterator[None]:
    """Have Celery's own command take the worker off its queues."""
    for queue in ("llm", "llm.batch"):
        stack.tell("cancel_consumer", queue=queue)
    try:
        yield
    finally:
        for queue in ("llm.batch", "llm"):
            stack.tell("add_consumer", queue=queue)


State = Callable[[Supervised], AbstractContextManager[None]]
#: Each state, what /ready says of the worker in it, and what its ping does.
STATES: list[tuple[State, str, str, str]] = [
    (dead, "stopped", ": ", "its engine is stopped ("),
    (stuck, "stuck", ": engine does not answer", "its engine is stuck (engine does not answer)"),
    (paused, "ready", " is paused", "it is paused"),
    (paused_over_a_broker_s_restart, "ready", " is paused", "it is paused"),
    (left, "ready", " does not take llm, llm.batch: paused, or told to leave", "its queues are paused or left"),
]


@pytest.mark.parametrize(("state", "word", "reason", "ping"), STATES, ids=lambda value: getattr(value, "__name__", ""))
def test_every_probe_tells_the_truth(well: Supervised, state: State, word: str, reason: str, ping: str) -> None:
    with state(well):
        assert_told(well, word, reason, ping)
    assert_well(well)


def test_an_engine_that_is_slow_under_load_takes_nothing_new_and_ends_its_streams(well: Supervised) -> None:
    """Its health checks fail for longer than a silent engine is left alone, and its streams go on."""
    mute, engine = well.home / "mute", well.engine_pid()
    tokens = int(1.5 * (KILL_AFTER_S + KILL_AFTER_S / 2) / 0.02)
    seen_states = set()
    body = {"prompt": "long", "n_predict": tokens, "stream": True}
    with well.client().post("/completion", body, stream=True) as response:
        mute.touch()
        events = filter(None, response.iter_lines(chunk_size=1))
        for number, _ in enumerate(events):
            if number % 50 == 0:
                row = well.row()
                seen_states.add((row.get("state"), row.get("consuming")))
            if number == tokens * 9 // 10:
                mute.unlink()
    # The last event has no token.
    assert number == tokens
    assert ("stuck", False) in seen_states
    assert {state for state, _ in seen_states} == {"ready", "stuck"}
    assert_well(well)
    assert well.engine_pid() == engine


def test_without_a_broker_no_probe_says_that_all_is_well(well: Supervised, celery_broker: RedisTestBroker) -> None:
    celery_broker.kill()
    body = well.ready_body()
    assert (body["ready"], body["workers"]) == (False, [])
    assert "broker" in body["reason"]
    # It knows the fleet as it was half a second ago.
    eventually(lambda: well.client().post("/health").status_code == 503, SLACK_S)
    assert well.ping() == ""
    celery_broker.restart()
    assert_well(well)


def test_a_stopped_worker_is_in_no_list_and_answers_no_ping(well: Supervised, celery_worker: CeleryTestWorker) -> None:
    celery_worker.kill("SIGTERM")
    assert well.wait("llm", STOP_S) == 0
    assert well.row() == {}
    assert well.ping() == ""
    assert not well.listens()
