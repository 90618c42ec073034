"""A broker that outlives its machine: its master is killed under load, and everything finds the next one by itself."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
from kombu import pools

from graycat.broker import keys
from graycat.celeryapp import create_celery
from graycat.settings import Settings
from tests.support.boxes import FAKE
from tests.support.processes import eventually
from tests.support.sentinels import Trio, trio
from tests.support.stack import BIN, REQUEST_S, START_S, Stack, running
from tests.support.unity import V2Reader, send_post

#: Long enough to be under way through a whole failover, which takes about two seconds here.
TOKENS, INTERVAL_S = 300, 0.03
#: Seconds in which everything answers again once there is a new master.
BACK_S = 90.0


class WatchedStack(Stack):
    """Everything that ``graycat up`` runs, for a broker that sentinels watch."""

    def __init__(self, home: Path, servers: Trio) -> None:
        engine = f"{FAKE} --port {{port}} --interval {INTERVAL_S}"
        super().__init__(home, env={**servers.env, "STARTUP_COMMAND": engine, "GRAYCAT_LEASE_S": "3"})
        self._servers = servers

    def redis(self) -> Any:
        """Return a client of the server that is the master now."""
        return self._servers.client(self._servers.master())


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    with trio(tmp_path_factory.mktemp("trio"), password="of-the-broker", sentinel_password="theirs") as made:
        yield made


@pytest.fixture(scope="module")
def stack(servers: Trio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(WatchedStack(tmp_path_factory.mktemp("watched") / "home", servers)) as started:
        yield started


class Submitter:
    """Submits one small task after the other, each again until it is accepted."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._stopping = threading.Event()
        self.accepted: list[str] = []
        self.refusals: list[int] = []

    def run(self) -> None:
        """Submit until ``stop``."""
        client = self._stack.client()
        while not self._stopping.wait(0.05):
            name = f"task-{len(self.accepted) + 1}"
            body = {"kind": "llm.completion", "input": {"prompt": name, "n_predict": 2}}
            answer = client.request("PUT", f"/tasks/{name}", json=body)
            if answer.ok:
                self.accepted.append(name)
            else:
                self.refusals.append(answer.status_code)

    def stop(self) -> None:
        """End ``run``."""
        self._stopping.set()


def play(stack: Stack) -> int:
    """Return how many tokens of one stream a game got; it must be whole.

    Read as v2 does: what comes after two seconds of silence is more than v3 reads at once, from any server.
    """
    body = {"prompt": "a game", "n_predict": TOKENS, "stream": True}
    with send_post(stack.url, "/completion", body, stack.token) as connection:
        return len(V2Reader().read(connection).tokens)


def test_a_killed_master_costs_seconds_and_no_work(stack: Stack, servers: Trio) -> None:
    submitter = Submitter(stack)
    with ThreadPoolExecutor(2) as callers, ExitStack() as callers_end:
        stream = callers.submit(play, stack)
        submitting = callers.submit(submitter.run)
        callers_end.callback(submitter.stop)
        eventually(lambda: len(submitter.accepted) >= 5, BACK_S)
        old = servers.master()
        servers.wait_for_copies(1)
        servers.kill(old)
        servers.wait_for_failover(old)
        before = len(submitter.accepted)
        eventually(lambda: len(submitter.accepted) >= before + 5, BACK_S)
        submitter.stop()
        submitting.result(REQUEST_S)
        assert stream.result(REQUEST_S) == TOKENS
    assert set(submitter.refusals) == {503}
    client = stack.client()
    for name in submitter.accepted:
        view = client.get(f"/tasks/{name}?wait=20").json()
        assert (view["state"], view["attempt"]) == ("succeeded", 1), view
    eventually(stack.ready, BACK_S)


def test_beat_and_remote_control_have_found_the_new_master(stack: Stack, servers: Trio) -> None:
    broker = stack.redis()
    # Who holds it renews it with each tick.
    left_ms = broker.pttl(keys.BEAT_LOCK)
    eventually(lambda: broker.pttl(keys.BEAT_LOCK) > left_ms, BACK_S)
    app = create_celery(Settings.from_env(stack.env))
    try:
        replies: Any = eventually(lambda: app.control.inspect(timeout=2).stats(), BACK_S)
        assert {name.partition("@")[0] for name in replies} == {"llm", "quick", "control"}
        assert servers.password not in str(replies)
        assert servers.sentinel_password not in str(replies)
    finally:
        pools.reset()
        app.close()


def test_an_old_master_that_comes_back_is_a_copy_and_nobody_writes_to_it(stack: Stack, servers: Trio) -> None:
    (old,) = [port for port in servers.ports if port != servers.master()]
    servers.start_server(old)
    servers.wait_for_copies(1)
    assert stack.client().post("/completion", {"prompt": "x", "n_predict": 2}).ok
    with pytest.raises(redis.ReadOnlyError):
        servers.client(old).set("key", "value")
    assert requests.get(f"{stack.url}/ready", timeout=REQUEST_S).ok


def test_a_backup_is_of_the_master(stack: Stack, servers: Trio, tmp_path: Path) -> None:
    stack.redis().hset("graycat:tokens", "gc_a", "sealed")
    file = tmp_path / "backup"
    command = [str(BIN / "graycat"), "backup", str(file)]
    done = subprocess.run(command, env=stack.env, check=True, capture_output=True, text=True, timeout=START_S)
    assert "1 API tokens" in done.stdout
    assert "of-the-broker" not in done.stdout + done.stderr
