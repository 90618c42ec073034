"""An API token that is revoked takes its work along, on each web process; one that changes its secret loses nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from graycat.broker.keys import owned_key
from tests.support.processes import eventually
from tests.support.stack import REQUEST_S, START_S
from tests.support.supervised import Supervised

#: Seconds in which a token's work ends with it.
ENDS_AFTER_S = 30.0
#: Two minutes of tokens, far below the deadline of a task.
LONG: dict[str, Any] = {"prompt": "long", "n_predict": 2400, "stream": True}
#: Seconds before the end of the overlap at which the last client changes its secret.
CHANGES_BEFORE_S = 1.0
#: Streams at once: they are on both web processes.
STREAMS = 6


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    """Yield a broker, two web processes, a worker and a control worker."""
    started = Supervised(tmp_path_factory.mktemp("ends"), "--interval 0.05 --slots 8", GRAYCAT_WEB_WORKERS="2")
    try:
        started.begin()
        started.start_worker()
        started.launch("control").wait_for("ready", START_S)
        yield started
    finally:
        started.kill_all()


def create(stack: Supervised, *words: str) -> str:
    """Return the secret of a new API token, or of one that is rotated."""
    done = stack.graycat(" ".join(("tokens", *words)))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def running(stack: Supervised) -> int:
    """Return how many generations the engine works on."""
    return int(stack.engine().get("/stats").json()["running"])


def read_to_the_end(stack: Supervised, headers: dict[str, str]) -> str:
    """Read a stream; return its last event."""
    answer = requests.post(f"{stack.url}/completion", json=LONG, headers=headers, stream=True, timeout=REQUEST_S)
    lines = [line for line in answer.iter_lines() if line]
    return str(lines[-1].decode())


def test_a_revoked_token_s_streams_and_tasks_end_within_seconds(stack: Supervised) -> None:
    secret = create(stack, "create", "game")
    player = requests.post(
        f"{stack.url}/tokens/player", json={"player": "42"}, headers=bearer(secret), timeout=REQUEST_S
    ).json()["token"]
    body = {"kind": "llm.completion", "input": LONG}
    with ThreadPoolExecutor(STREAMS + 1) as pool:
        streams = [pool.submit(read_to_the_end, stack, bearer(token)) for token in (secret, player) * (STREAMS // 2)]
        eventually(lambda: running(stack) == STREAMS, REQUEST_S)
        # Nobody waits for these: some run, and the others are queued.
        tasks = [
            requests.post(f"{stack.url}/tasks", json=body, headers=bearer(secret), timeout=REQUEST_S).json()["id"]
            for _ in range(6)
        ]
        other = pool.submit(read_to_the_end, stack, bearer(stack.token))
        eventually(lambda: running(stack) == 8, REQUEST_S)

        create(stack, "revoke", "game")
        revoked_at = time.monotonic()
        last = [json.loads(stream.result(REQUEST_S).removeprefix("data: ")) for stream in streams]
        assert {event["error"]["type"] for event in last} == {"token_revoked"}
        states = stack.redis()
        eventually(
            lambda: {states.hget(f"graycat:task:{task_id}", "state") for task_id in tasks} == {"cancelled"}, REQUEST_S
        )
        assert time.monotonic() - revoked_at < ENDS_AFTER_S
        # Another token's goes on.
        eventually(lambda: running(stack) == 1, REQUEST_S)
        assert not other.done()
        # That one is not waited for. A call that somebody waits for is in no list of tasks.
        for task_id in states.zrange(owned_key("llm", "tests"), 0, -1):
            requests.delete(f"{stack.url}/tasks/{task_id}", headers=bearer(stack.token), timeout=REQUEST_S)
        states.close()


class Caller:
    """A client that works with one secret until it is given another one: a task at a time, so no queue fills up."""

    def __init__(self, stack: Supervised, secret: str) -> None:
        self._stack = stack
        self.secret = secret
        self.statuses: list[int] = []
        self.tasks: list[str] = []
        self._stop = threading.Event()
        self.thread = threading.Thread(target=self._work)
        self.thread.start()

    def _work(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            body = {"kind": "llm.completion", "input": {"prompt": f"n{number}", "n_predict": 1}}
            answer = requests.post(
                f"{self._stack.url}/tasks", json=body, headers=bearer(self.secret), timeout=REQUEST_S
            )
            self.statuses.append(answer.status_code)
            if answer.status_code != 202:
                continue
            self.tasks.append(answer.json()["id"])
            done = requests.get(
                f"{self._stack.url}{answer.headers['Location']}?wait=30",
                headers=bearer(self.secret),
                timeout=REQUEST_S,
            )
            self.statuses.append(done.status_code)

    def stop(self) -> None:
        """Stop; returns when its last request is answered."""
        self._stop.set()
        self.thread.join(REQUEST_S)


def test_clients_change_their_secret_at_any_moment_of_the_overlap(stack: Supervised) -> None:
    old = create(stack, "create", "shop")
    callers = [Caller(stack, old) for _ in range(4)]
    eventually(lambda: all(len(caller.tasks) > 3 for caller in callers), REQUEST_S)
    new = create(stack, "rotate", "shop", "--overlap", "12s")
    (record,) = stack.redis().hvals("graycat:tokens")
    ends_at = json.loads(record[record.index("{") :])["former_until"]
    # The first at once, the last shortly before the old one ends.
    began_at = time.time()
    for number, caller in enumerate(callers):
        moment = began_at + number * (ends_at - CHANGES_BEFORE_S - began_at) / (len(callers) - 1)
        eventually(lambda moment=moment: time.time() >= moment, REQUEST_S)  # type: ignore[misc]
        caller.secret = new
    # The old one has ended, by the clock.
    eventually(
        lambda: requests.get(f"{stack.url}/tasks", headers=bearer(old), timeout=REQUEST_S).status_code == 401, REQUEST_S
    )
    for caller in callers:
        seen = len(caller.tasks)
        eventually(lambda caller=caller, seen=seen: len(caller.tasks) > seen, REQUEST_S)  # type: ignore[misc]
        caller.stop()
    assert {status for caller in callers for status in caller.statuses} == {202, 200}
    for task_id in [caller.tasks[0] for caller in callers] + [caller.tasks[-1] for caller in callers]:
        answer = requests.get(f"{stack.url}/tasks/{task_id}?wait=30", headers=bearer(new), timeout=REQUEST_S)
        assert answer.json()["state"] == "succeeded"
    refused = requests.get(f"{stack.url}/tasks", headers=bearer(old), timeout=REQUEST_S)
    assert refused.json()["error"]["type"] == "token_revoked"
    assert "replaced" in refused.json()["error"]["message"]
