"""Two versions side by side: parts of the next one, which say and write more than this one knows."""

from __future__ import annotations

import time
from functools import partial

from chaos.faults import ENDS, Fault
from chaos.system import SPARE, System
from tests.support.stack import ROOT

#: Seconds for which both versions work.
TOGETHER_S = 5.0
#: Makes a process one of the next version.
NEXT = {"PYTHONPATH": f"{ROOT / 'tests' / 'support' / 'next_version'}:{ROOT}"}


def run_next(kind: str, system: System) -> None:
    """Run a worker of the next version beside today's."""
    with system.spare_worker(kind, NEXT):
        if kind == "llm":
            system.wait_until_busy(kind, SPARE)
        time.sleep(TOGETHER_S)


def upgrade(system: System) -> None:
    """Start a worker of the next version, then kill today's: the next one has its tasks."""
    with system.spare_worker("llm", NEXT):
        system.wait_until_busy("llm")
        system.kill("llm")
        time.sleep(TOGETHER_S)


FAULTS = [
    Fault("next version's text worker", "versions", "a text worker of the next version beside today's",
          partial(run_next, "llm")),
    Fault("next version's control worker", "versions", "a control worker of the next version beside today's",
          partial(run_next, "control")),
    Fault("upgrade under kill", "versions", "today's text worker is killed beside one of the next version", upgrade,
          permits=ENDS),
]  # fmt: skip
