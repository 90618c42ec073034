"""Every process that is asked to stop ends in time while the broker does not answer, busy or not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from graycat.worker.stopping import LAST_S
from tests.support.boxes import FAKE, OpenValkey
from tests.support.images import start_command
from tests.support.processes import eventually
from tests.support.proxies import Proxy
from tests.support.stack import REQUEST_S, START_S, Stack, free_ports

GRACE_S = 2.0
#: What a busy machine may add to the seconds that are promised. Without the deadline most would not end in minutes.
SLACK_S = 60.0
WORKERS = {"llm", "quick", "sd", "control"}
#: By default the worst way alone is tried: nothing fails, so everything waits.
ALL_WAYS = bool(os.environ.get("GRAYCAT_TEST_ALL_WAYS"))
WAYS = [
    "frozen",
    *(
        pytest.param(way, marks=pytest.mark.skipif(not ALL_WAYS, reason="see CONTRIBUTING.md"))
        for way in ("dead", "unreachable")
    ),
]


class Deserted(Stack):
    """All processes, each by itself, and a broker elsewhere that can be taken away."""

    def __init__(self, home: Path) -> None:
        self.broker = OpenValkey(home / "broker")
        self.broker.start()
        self.network = Proxy(self.broker.port)
        self.network.start()
        self.broker_pid: int = self.broker.client.info("server")["process_id"]
        env = {
            "REDIS_URL": f"redis://127.0.0.1:{self.network.port}/0",
            "RUN_SD": "true",
            "GRAYCAT_FLOWER": "true",
            "FLOWER_PORT": str(free_ports(1)[0]),
            "STARTUP_COMMAND": f"{FAKE} --port {{port}} --interval 0.05",
            "SD_STARTUP_COMMAND": start_command(),
            "GRAYCAT_STOP_GRACE_S": str(GRACE_S),
        }
        super().__init__(home / "home", separately=True, env=env)
        self.commands.pop("broker")

    def workers(self) -> dict[str, dict[str, Any]]:
        """Return what the web server knows of each kind of worker."""
        rows = requests.get(f"{self.url}/ready", timeout=REQUEST_S).json()["workers"]
        return {row["name"].partition("@")[0]: row for row in rows if row["consuming"]}

    def take_broker_away(self, way: str) -> None:
        """Take the broker away."""
        if way == "frozen":
            os.kill(self.broker_pid, signal.SIGSTOP)
        elif way == "dead":
            self.broker.kill()
        else:
            self.network.hold("there", "back")

    def close_all(self) -> None:
        """End everything."""
        self.kill_all()
        if self.broker.alive():
            os.kill(self.broker_pid, signal.SIGCONT)
        self.broker.stop()
        self.network.stop()


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Deserted]:
    """Yield a stack in which everything works."""
    started = Deserted(tmp_path)
    try:
        started.start()
        eventually(lambda: set(started.workers()) == WORKERS, START_S)
        started.outputs["beat"].wait_for("beat ticks", START_S)
        yield started
    finally:
        started.close_all()


def end_all(stack: Stack) -> None:
    """Ask all processes to stop. Fails if one does not end in time."""
    asked_at = time.monotonic()
    taken: dict[str, float] = {}
    for name in stack.commands:
        stack.send_signal(name, signal.SIGTERM)

    def all_ended() -> bool:
        for name in set(stack.commands) - set(taken):
            if not stack.alive(name):
                taken[name] = round(time.monotonic() - asked_at, 1)
        return len(taken) == len(stack.commands)

    try:
        eventually(all_ended, GRACE_S + LAST_S + SLACK_S)
    except AssertionError:
        pytest.fail(f"{set(stack.commands) - set(taken)} did not end; the others took {taken}")


@pytest.mark.parametrize("way", WAYS)
def test_each_process_ends_in_time_while_the_broker_is_away(stack: Deserted, way: str) -> None:
    with ThreadPoolExecutor(1) as caller:
        # Minutes of work.
        asked = caller.submit(stack.client().post, "/completion", {"prompt": "hello", "n_predict": 10_000})
        eventually(lambda: stack.workers()["llm"]["busy"], START_S)
        stack.take_broker_away(way)
        end_all(stack)
        # Whoever waited was told.
        assert asked.result(START_S).status_code == 503
    assert {name: stack.wait(name, 0) for name in stack.commands} == dict.fromkeys(stack.commands, 0)
    # And no engine is left.
    eventually(lambda: not stack.command_lines(), START_S)
