"""The stack that windows are tried on: each command a process that may die at a step, and is started again at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from chaos.hook.traps import Traps
from tests.support.boxes import FAKE
from tests.support.images import start_command
from tests.support.processes import eventually
from tests.support.servers import Seen, http_server, reply
from tests.support.stack import ROOT, START_S, Stack, free_ports

#: What puts the hook into processes; their traps are in their home.
HOOK_ENV = {"PYTHONPATH": f"{ROOT / 'chaos' / 'hook'}:{ROOT}", "CHAOS_TRAPS": "traps"}
#: A dead worker's tasks come back after so many seconds; seconds between two tokens.
LEASE_S, TOKEN_S = 1.0, 0.02
#: Seconds between two looks at which processes have died.
LOOK_S = 0.05
#: The processes that take steps. The broker takes none by itself.
PROCESSES = ("web", "llm", "quick", "sd", "control", "beat")


class BrokenMutantError(Exception):
    """Raised if what a mutant changes is not there any more."""


class WindowStack(Stack):
    """A broker, and one process of each kind. ``mutant``: one of the known ways to break graycat; '' for none."""

    def __init__(self, home: Path, mutant: str = "", env: Mapping[str, str] | None = None) -> None:
        self.traps = Traps(home / "traps")
        given = {
            "RUN_SD": "true",
            "STARTUP_COMMAND": f"{FAKE} --port {{port}} --interval {TOKEN_S} --tells-prompts",
            "SD_STARTUP_COMMAND": start_command(step_s=0.01),
            "GRAYCAT_LEASE_S": str(LEASE_S),
            "GRAYCAT_SCHEDULE_TICK_S": "0.5",
            "GRAYCAT_BATCH_MAX_LIVE": "10000",
            "GRAYCAT_WEBHOOK_ALLOW": "127.0.0.1/32",
            "GRAYCAT_ADMINS": "tests",
            "CHAOS_MUTANT": mutant,
            **HOOK_ENV,
        }
        super().__init__(home, separately=True, env=given | dict(env or {}))
        self.commands = {name: line for name, line in self.commands.items() if name in (*PROCESSES, "broker")}
        #: What is different in the environment of one process.
        self._env_of: dict[str, dict[str, str]] = {}
        #: How often each process has died.
        self.deaths: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)

    def start(self) -> WindowStack:
        """Start everything; return when engines would answer."""
        for name in self.commands:
            self._start_process(name)
        self._supervisor.start()
        eventually(self._is_ready, 2 * START_S)
        return self

    def _is_ready(self) -> bool:
        # A mutant that does not apply ends each process when it starts.
        if "DoesNotApply" in self.output:
            raise BrokenMutantError(self.output[-2000:])
        return self.ready()

    def add_second(self, kind: str) -> str:
        """Have a second worker of a kind, with an engine of its own; return its name. To be called before ``start``."""
        name = f"{kind}2"
        (port,) = free_ports(1)
        self.commands[name] = self.commands[kind]
        self._env_of[name] = {"GRAYCAT_BOX": "second", f"{kind.upper()}_PORT": str(port)}
        return name

    def _start_process(self, name: str) -> None:
        before = dict(self._own_env)
        self.set_env({"CHAOS_PROCESS": name, **self._env_of.get(name, {})})
        try:
            self.launch(name)
        finally:
            self._own_env = before

    def resume(self, process: str) -> None:
        """Let a process go on that was stopped at a step."""
        os.kill(self._popen[process].pid, signal.SIGCONT)

    def _supervise(self) -> None:
        while not self._stopping.wait(LOOK_S):
            for name, process in list(self._popen.items()):
                if process.poll() is not None and not self._stopping.is_set():
                    self.deaths[name] += 1
                    self._start_process(name)

    def stop(self) -> None:
        """Stop everything."""
        self._end_supervisor()
        super().stop()

    def kill_all(self) -> None:
        """Kill all that is left of it."""
        self._end_supervisor()
        super().kill_all()

    def _end_supervisor(self) -> None:
        self._stopping.set()
        if self._supervisor.is_alive():
            self._supervisor.join()

    def asked(self) -> list[str]:
        """Return the lines of what engines were asked for."""
        lines: list[str] = []
        for path in (self.home / "log").glob("*engine*.log"):
            lines += [line for line in path.read_text(errors="replace").splitlines() if line.startswith("asked for")]
        return lines


@contextlib.contextmanager
def window_stack(home: Path, mutant: str = "", seconds: Sequence[str] = ()) -> Iterator[tuple[WindowStack, Seen]]:
    """Run a stack and a receiver of webhooks for the block; ``seconds``: kinds of which there are two workers."""
    with http_server({"POST /hook": reply(200, {})}) as receiver:
        stack = WindowStack(home, mutant)
        for kind in seconds:
            stack.add_second(kind)
        try:
            yield stack.start(), receiver
        finally:
            stack.kill_all()


def read_webhooks(receiver: Seen) -> Counter[str]:
    """Return how often each event was told, by ``webhook-id``."""
    return Counter(str(headers["webhook-id"]) for headers in list(receiver.headers))
