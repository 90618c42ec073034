"""A worker that owns the fake text engine, every part a process of its own: what it does to them, and what it says."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from celery.app.control import Control
from kombu import pools
from kombu.exceptions import OperationalError

from graycat.celeryapp import create_celery
from graycat.settings import Settings
from tests.support.boxes import FAKE
from tests.support.processes import Output, eventually
from tests.support.stack import BIN, REQUEST_S, ROOT, START_S, Stack

WORKER = "llm@box"
#: Seconds until a worker's report has arrived, on a busy machine.
TOLD_S = 90.0
#: Seconds in which a worker answers a command.
PING_S = 5.0


class Supervised(Stack):
    """Broker, web server and one worker, which starts ``engine``: the fake by default."""

    def __init__(self, home: Path, options: str = "", engine: str = "", **env: str) -> None:
        self.fails, self.loads = home / "fails", home / "loads"
        command = engine or f"{FAKE} --port {{port}} {options}"
        given = {"GRAYCAT_BOX": "box", "STARTUP_COMMAND": command, "GRAYCAT_LEASE_S": "1.5", **env}
        super().__init__(home, separately=True, env=given)

    def begin(self) -> None:
        """Start all but the worker; the broker may run already."""
        if not self.alive("broker"):
            self.launch("broker")
        self.launch("web")
        eventually(self._web_is_up, START_S)

    def _web_is_up(self) -> bool:
        # Its first answer may take longer on a busy machine.
        with contextlib.suppress(requests.ConnectionError, requests.Timeout):
            return requests.get(f"{self.url}/ready", timeout=5).status_code == 503
        return False

    def start_worker(self) -> Output:
        """Start the worker; returns when it takes tasks."""
        output = self.launch("llm")
        self.wait_until_consuming()
        return output

    def wait_until_consuming(self) -> None:
        """Return when the worker takes tasks."""
        eventually(lambda: self.row().get("consuming"), START_S)

    def ready_body(self) -> dict[str, Any]:
        """Return what /ready says."""
        body: dict[str, Any] = requests.get(f"{self.url}/ready", timeout=REQUEST_S).json()
        return body

    def row(self, worker: str = WORKER) -> dict[str, Any]:
        """Return what /ready says of the worker; empty while there is none."""
        return next((row for row in self.ready_body()["workers"] if row["name"] == worker), {})

    def engine_pid(self) -> int | None:
        """Return the fake engine's process id; None while it does not run."""
        return next((pid for pid, line in self.command_lines().items() if line.startswith(FAKE.replace("'", ""))), None)

    def signal_engine(self, number: int) -> int:
        """Send the engine a signal; return its process id."""
        pid = eventually(self.engine_pid, START_S)
        assert pid is not None
        os.kill(pid, number)
        return pid

    def kill_engine(self) -> int:
        """Kill the engine; return its process id once it is gone."""
        pid = self.signal_engine(signal.SIGKILL)
        eventually(lambda: pid not in self.command_lines(), START_S)
        return pid

    def listens(self) -> bool:
        """Return whether a process listens on the engine's port."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.llm_port)) == 0

    def celery(self, command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run one of Celery's own commands to its end, with more in its environment."""
        words = [str(BIN / "celery"), "-A", "graycat", *shlex.split(command)]
        return subprocess.run(
            words, cwd=ROOT, env=self.env | env, check=False, capture_output=True, text=True, timeout=START_S
        )

    @contextlib.contextmanager
    def control(self) -> Iterator[Control]:
        """Yield what Celery's own commands use to talk to workers; each of these takes a second to start."""
        app = create_celery(Settings.from_env(self.env))
        try:
            yield app.control
        finally:
            # kombu keeps connections beyond an application's end; a broker waits for its clients to leave.
            pools.reset()
            app.close()

    def ping(self) -> str:
        """Return what the worker answers to Celery's ping; '' where it does not."""
        with self.control() as control:
            try:
                replies: Any = control.inspect([WORKER], timeout=PING_S).ping()
            except OperationalError:
                return ""
        if not replies:
            return ""
        return str(replies[WORKER]["ok"])

    def tell(self, command: str, **arguments: str) -> None:
        """Give the worker a command of Celery's, as ``celery control`` does; it must agree."""
        with self.control() as control:
            replies: Any = control.broadcast(command, arguments, [WORKER], reply=True, timeout=PING_S)
        assert [list(reply[WORKER]) for reply in replies] == [["ok"]], replies

    def graycat(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ours to its end."""
        words = [sys.executable, str(BIN / "graycat"), *shlex.split(command)]
        return subprocess.run(
            words, cwd=ROOT, env=self.env, check=False, capture_output=True, text=True, timeout=START_S
        )


@contextlib.contextmanager
def supervised(home: Path, options: str = "") -> Iterator[Supervised]:
    """Run a broker, a web server and a worker for the block; nobody restarts what it kills."""
    started = Supervised(home, options)
    try:
        started.begin()
        started.start_worker()
        yield started
        started.stop()
    finally:
        started.kill_all()
