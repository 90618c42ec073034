"""Clocks that jump by an hour, of one part or of all but the broker's. Times of tasks are the broker's alone."""

from __future__ import annotations

import time
from functools import partial

from chaos.clocks import set_clock
from chaos.faults import Fault
from chaos.system import System

#: How far a clock jumps, and for how long it stays so (seconds).
HOUR_S, WRONG_S = 3600, 5.0
PARTS = ("llm", "quick", "sd", "control", "web", "beat")


def jump(parts: tuple[str, ...], offset_s: int, system: System) -> None:
    """Set the clocks of some parts, and set them right again."""
    for part in parts:
        set_clock(system.home, part, offset_s)
    try:
        time.sleep(WRONG_S)
    finally:
        for part in parts:
            set_clock(system.home, part, 0)
        system.harm_done()


def _fault(name: str, parts: tuple[str, ...], offset_s: int) -> Fault:
    direction = "ahead" if offset_s > 0 else "behind"
    what = f"the clock of {name} is an hour {direction} for {WRONG_S:g} s"
    return Fault(
        f"clock of {name} {direction}", "clock", what, partial(jump, parts, offset_s), env={"CHAOS_CLOCKS": "true"}
    )


FAULTS = [
    *[_fault(part, (part,), HOUR_S) for part in ("llm", "control", "web")],
    *[_fault(part, (part,), -HOUR_S) for part in ("sd", "beat", "web")],
    _fault("everything but the broker", PARTS, HOUR_S),
    _fault("everything but the broker", PARTS, -HOUR_S),
]
