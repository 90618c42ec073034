"""A worker that ends, however it is told to, loses nothing and leaves nothing; one that is killed leaves nothing."""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from pytest_celery import CeleryTestWorker, RedisTestBroker

from tests.support.boxes import FAKE
from tests.support.processes import eventually
from tests.support.stack import REQUEST_S, START_S, STOP_S
from tests.support.supervised import WORKER, Supervised

#: Callers, each with one request after the other, on an engine with four slots; the tokens of each, 0.05 s apart.
REQUESTS, TOKENS = 20, 12
#: Seconds in which all of a killed worker's processes are gone.
GONE_S = 30.0
#: A start script as they are: in a session of its own, behind a second fork, the engine, and a helper beside it.
SCRIPT = f"""#!/bin/sh
sleep 86400 &
(setsid {FAKE} --port "$1" --interval 0.05 &)
while :; do sleep 1; done
"""


@pytest.fixture(scope="module")
def celery_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    """Yield a stack whose engine is started by a script."""
    home = tmp_path_factory.mktemp("ends") / "home"
    home.mkdir()
    script = home / "webui.sh"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    started = Supervised(home, engine=f"{shlex.quote(str(script))} {{port}}")
    try:
        yield started
    finally:
        started.kill_all()


@pytest.fixture(scope="module")
def stack(celery_stack: Supervised, celery_broker: RedisTestBroker) -> Supervised:
    """Return the stack, whose web server runs."""
    celery_stack.begin()
    return celery_stack


@pytest.fixture
def worker(stack: Supervised, celery_worker: CeleryTestWorker) -> CeleryTestWorker:
    """Return the worker, which takes tasks, whatever the test before has left."""
    start(stack, celery_worker)
    return celery_worker


def start(stack: Supervised, worker: CeleryTestWorker) -> None:
    """Start the worker, unless it runs; return when the web server knows that it takes tasks."""
    worker.container.start()
    stack.wait_until_consuming()


def of_worker(stack: Supervised) -> dict[int, str]:
    """Return the processes of the worker and its engine."""
    return {pid: line for pid, line in stack.command_lines().items() if not line.endswith(("broker", "web", ".sock"))}


def ask(stack: Supervised, number: int, tokens: int = TOKENS) -> requests.Response:
    """Send one request, under an id of its own."""
    body = {"prompt": f"request {number}", "n_predict": tokens}
    headers = {"X-Request-ID": f"ends-{number}", "Authorization": f"Bearer {stack.token}"}
    return requests.post(f"{stack.url}/completion", json=body, headers=headers, timeout=REQUEST_S)


def keep_asking(stack: Supervised, first: int, ended: threading.Event) -> list[requests.Response]:
    """Send one request after the other until told to end."""
    answers = [ask(stack, first)]
    while not ended.is_set():
        answers.append(ask(stack, first + len(answers)))
    return answers


def terminate(stack: Supervised, worker: CeleryTestWorker) -> None:
    worker.kill("SIGTERM")


def drain(stack: Supervised, worker: CeleryTestWorker) -> None:
    assert stack.graycat(f"worker drain {WORKER} --limit 20").stdout.startswith(f"{WORKER} finishes what runs")


def drain_by_celery(stack: Supervised, worker: CeleryTestWorker) -> None:
    done = stack.celery(f"control drain_worker 20 -d {WORKER}")
    assert "finishes what runs within 20 s" in done.stdout, done.stdout + done.stderr


def shut_down_by_celery(stack: Supervised, worker: CeleryTestWorker) -> None:
    """Send what Flower's button "Shut Down" sends."""
    stack.celery(f"control shutdown -d {WORKER}")


@pytest.mark.parametrize("end", [terminate, drain, drain_by_celery, shut_down_by_celery])
def test_a_worker_that_ends_under_load_loses_nothing(
    stack: Supervised, worker: CeleryTestWorker, end: Callable[[Supervised, CeleryTestWorker], None]
) -> None:
    first, ended = time.monotonic_ns(), threading.Event()
    with ThreadPoolExecutor(REQUESTS) as callers:
        asked = [callers.submit(keep_asking, stack, first + 1000 * number, ended) for number in range(REQUESTS)]
        eventually(lambda: sum(record["state"] == "running" for record in stack.live()) == 4, START_S)
        end(stack, worker)
        assert stack.wait("llm", STOP_S) == 0
        assert of_worker(stack) == {}
        assert not stack.listens()
        # What ran is finished, what waited waits.
        eventually(lambda: len(stack.live()) == REQUESTS, STOP_S)
        assert {record["state"] for record in stack.live()} == {"queued"}
        ended.set()
        start(stack, worker)
        given = [answer for answers in asked for answer in answers.result(REQUEST_S)]
    assert {(answer.status_code, answer.json().get("tokens_predicted")) for answer in given} == {(200, TOKENS)}
    # Nothing was begun twice: what ran was finished within the limit.
    records = [stack.record(answer.headers["X-Request-ID"]) for answer in given]
    assert {(record["state"], record["attempt"]) for record in records} == {("succeeded", "1")}
    assert len(given) > REQUESTS


def test_what_runs_past_the_limit_is_handed_back_and_answered_by_the_next_worker(
    stack: Supervised, worker: CeleryTestWorker
) -> None:
    first = time.monotonic_ns()
    with ThreadPoolExecutor(4) as callers:
        # Ten seconds of work: the command that drains has to start meanwhile.
        answers = [callers.submit(ask, stack, first + number, 200) for number in range(4)]
        eventually(lambda: sum(record["state"] == "running" for record in stack.live()) == 4, START_S)
        assert stack.graycat(f"worker drain {WORKER} --limit 0.5").returncode == 0
        assert stack.wait("llm", STOP_S) == 0
        assert not any(answer.done() for answer in answers)
        start(stack, worker)
        given = [answer.result(REQUEST_S) for answer in answers]
    assert [(a.status_code, a.json().get("tokens_predicted")) for a in given] == [(200, 200)] * 4
    assert {stack.record(f"ends-{first + number}")["attempt"] for number in range(4)} == {"2"}


def test_a_killed_worker_leaves_nothing_of_its_engine_and_of_what_that_has_started(
    stack: Supervised, worker: CeleryTestWorker
) -> None:
    there = of_worker(stack)
    (engine,) = [pid for pid, line in there.items() if "llama_server.py" in line]
    # It has gone as far away from its worker as a process can.
    assert os.getsid(engine) == engine
    assert sum("sleep" in line for line in there.values()) >= 1
    killed_at = time.monotonic()
    worker.kill()
    eventually(lambda: not of_worker(stack), GONE_S, every_s=0.01)
    assert time.monotonic() - killed_at < GONE_S
    assert not stack.listens()
    # And it starts again where it was.
    worker.restart()
    eventually(stack.listens, START_S)
