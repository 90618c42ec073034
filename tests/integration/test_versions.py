"""Processes of the next version beside today's: its worker with today's web, its web with today's worker."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from graycat.broker.client import connect
from graycat.celeryapp import create_celery
from graycat.queue.messages import MessageFactory
from graycat.queue.records import TaskRecords
from tests.support.helpers import new_task
from tests.support.processes import SLACK_S, eventually
from tests.support.stack import REQUEST_S, ROOT, START_S, STOP_S, Client, free_ports
from tests.support.supervised import WORKER, Supervised
from tests.support.unity import Answer, V3Reader, send_post

#: Makes a process one of the next version, and the kind of task that only that knows.
NEXT = {"PYTHONPATH": str(ROOT / "tests" / "support" / "next_version")}
NEW_KIND = "llm.ponder"
NEXT_WORKER = "llm@next"
BOTH_WORKERS = {WORKER, NEXT_WORKER}
TOKENS = 20
#: A lost task is looked for this often.
LEASE_S = 1.5
#: What no process may print: an exception that nothing has expected.
TROUBLE = (
    "pidbox command error: TypeError",
    "duty failed",
    "unexpected error",
    "stream relay failed",
    "Internal Server Error",
)


class Mixed(Supervised):
    """A broker, today's web and worker, and a web and a worker of the next version."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, "--interval 0.03", GRAYCAT_ADMINS="tests")
        next_port, self.next_llm_port = free_ports(2)
        self.urls = {"today": self.url, "next": f"http://127.0.0.1:{next_port}"}
        self.next_port = next_port

    def launch_next_worker(self) -> None:
        """Start the worker of the next version; returns when it takes tasks."""
        self.launch_next("next worker", "llm", GRAYCAT_BOX="next", LLM_PORT=str(self.next_llm_port))
        eventually(lambda: self.row(NEXT_WORKER).get("consuming"), START_S)

    def web(self, version: str) -> Client:
        """Return a client of the web process of a version."""
        client = Client(self.urls[version], self.token)
        self._clients.append(client)
        return client

    def launch_next(self, name: str, command: str, **env: str) -> None:
        """Start a process of the next version."""
        today = dict(self._own_env)
        self.set_env(NEXT | env)
        self.launch(name, self.commands[command])
        self._own_env = today


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mixed]:
    """Yield a stack whose processes all run."""
    started = Mixed(tmp_path_factory.mktemp("versions"))
    try:
        started.begin()
        started.launch_next("next web", "web", PORT=str(started.next_port))
        started.launch("llm")
        started.launch_next_worker()
        started.wait_until_consuming()
        yield started
        assert not [line for line in started.output.splitlines() if any(words in line for words in TROUBLE)]
        started.stop()
    finally:
        started.kill_all()


EACH_WEB = pytest.mark.parametrize("version", ["today", "next"])


def play(stack: Mixed, version: str) -> Answer:
    """Return the answer that a game reads."""
    body = {"prompt": "hello", "n_predict": TOKENS, "stream": True}
    with send_post(stack.urls[version], "/completion", body, stack.token) as connection:
        return V3Reader().read(connection)


def submit(stack: Mixed, version: str, tokens: int) -> str:
    """Submit a task to one web process; return its address."""
    body = {"kind": "llm.completion", "input": {"prompt": "hello", "n_predict": tokens}}
    answer = stack.web(version).post("/tasks", body)
    assert answer.status_code == 202
    return str(answer.headers["Location"])


def read_along(stack: Mixed, version: str, path: str) -> list[str]:
    """Return the kinds of a task's events, from one web process."""
    answer = stack.web(version).get(f"{path}/events?format=ndjson")
    return [json.loads(line)["event"] for line in answer.text.splitlines() if line]


@EACH_WEB
def test_who_looks_at_the_fleet_sees_workers_of_both_versions(stack: Mixed, version: str) -> None:
    web = stack.web(version)
    rows = web.get("/ready").json()["workers"]
    assert {row["name"] for row in rows if row["consuming"]} == BOTH_WORKERS
    for path in ("/health", "/props", "/v1/models", "/metrics", "/status", "/tasks"):
        assert web.get(path).status_code == 200, path


@EACH_WEB
def test_every_answer_is_whole_whichever_versions_make_it(stack: Mixed, version: str) -> None:
    other = {"today": "next", "next": "today"}[version]
    with ThreadPoolExecutor(8) as callers:
        games = [callers.submit(play, stack, version) for _ in range(6)]
        paths = [submit(stack, version, TOKENS) for _ in range(2)]
        # One web process submits, the other one shows.
        read = [callers.submit(read_along, stack, other, path) for path in paths]
        assert {len(game.result(REQUEST_S).tokens) for game in games} == {TOKENS}
        for kinds in (future.result(REQUEST_S) for future in read):
            assert (kinds[0], kinds.count("chunk"), kinds[-1]) == ("started", TOKENS + 1, "result")
    views = [stack.web(other).get(path).json() for path in paths]
    assert {(view["state"], view["attempt"]) for view in views} == {("succeeded", 1)}


@EACH_WEB
def test_a_cancel_stops_workers_of_both_versions(stack: Mixed, version: str) -> None:
    web = stack.web(version)
    paths = [submit(stack, version, 2000) for _ in range(6)]
    eventually(lambda: {web.get(path).json().get("worker") for path in paths} == BOTH_WORKERS, SLACK_S)
    assert [web.request("DELETE", path).json()["confirmed"] for path in paths] == [True] * 6


def test_a_kind_of_task_that_today_s_worker_does_not_know_waits_for_one_that_does(stack: Mixed) -> None:
    stack.send_signal("next worker", signal.SIGTERM)
    assert stack.wait("next worker", STOP_S) == 0
    client = connect(stack.settings)
    records = TaskRecords(client, stack.settings)
    task = new_task(kind=NEW_KIND, body=b'{"prompt": "hello", "n_predict": 3, "stream": true}', shown={})
    began = time.monotonic()
    records.create(task, MessageFactory(create_celery(stack.settings)).make(task.kind, task.id, "llm"))
    # It comes back, and not all the time.
    eventually(lambda: times_dropped(stack, task.id) >= 3, SLACK_S)
    assert times_dropped(stack, task.id) <= 3 + (time.monotonic() - began) / LEASE_S
    # It keeps none of its owner's other tasks waiting.
    assert stack.web("today").post("/completion", {"prompt": "hello", "n_predict": 2}).status_code == 200
    view = stack.web("today").get(f"/tasks/{task.id}").json()
    assert (view["state"], view["kind"]) == ("queued", NEW_KIND)

    stack.launch_next_worker()
    eventually(lambda: records.get(task.id)["state"] == "succeeded", SLACK_S)
    assert records.get(task.id)["attempt"] == "1"
    client.close()


def times_dropped(stack: Mixed, task_id: str) -> int:
    """Return how often today's worker has got a task that it does not know."""
    lines = stack.outputs["llm"].text.splitlines()
    return sum("unknown kind of task" in line and task_id in line for line in lines)
