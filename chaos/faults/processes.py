"""Processes that die, are asked to end, or stand still: each part, each signal."""

from __future__ import annotations

import os
import signal
from functools import partial

from chaos.faults import BREAKS, ENDS, REFUSES, Fault
from chaos.system import System
from tests.support.processes import eventually

#: Seconds for which a part stands still.
FROZEN_S = 4.0
#: What each part's death permits. Work goes on with the next worker; an engine's calls end with it.
PERMITS = {
    "broker": BREAKS | REFUSES | ENDS,
    "valkey": BREAKS | REFUSES | ENDS,
    "web": BREAKS | REFUSES,
    "web server": BREAKS | REFUSES,
}
KILLED = (
    "web",
    "llm",
    "sd",
    "control",
    "quick",
    "valkey",
    "text engine",
    "beat",
    "image engine",
    "web server",
    "flower",
    "broker",
)


def kill(part: str, system: System) -> None:
    """Kill a part; its supervisor starts it again."""
    system.kill(part)


def terminate(part: str, system: System) -> None:
    """Ask a part to end; its supervisor starts it again."""
    system.terminate(part)


def freeze(part: str, system: System) -> None:
    """Have a part stand still for some seconds."""
    system.freeze(part, FROZEN_S)


def kill_all(system: System) -> None:
    """Kill the supervisor and all parts at once, and start everything anew."""
    for pid in system.stack.command_lines():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    system.harm_done()
    eventually(lambda: not system.stack.command_lines(), 30)
    system.start()


FAULTS = [
    Fault(
        f"kill {part}",
        "processes",
        f"{part} is killed (SIGKILL)",
        partial(kill, part),
        short=part in ("llm", "web", "valkey", "sd"),
        permits=PERMITS.get(part, frozenset()),
    )
    for part in KILLED
]
