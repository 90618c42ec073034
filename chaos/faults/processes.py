"""Processes that die, are asked to end, or stand still: each part, each signal; two at once, and all."""

from __future__ import annotations

import contextlib
import os
import signal
from functools import partial

from chaos.faults import BREAKS, ENDS, REFUSES, Fault
from chaos.system import System, wait_for
from tests.support.processes import eventually
from tests.support.stack import STOP_S

#: Seconds for which a part stands still; for which a worker does whose lease runs out meanwhile; that an end may take.
FROZEN_S, PAST_LEASE_S, ENDED_S = 4.0, 9.0, 60.0
#: What a part's end permits. Work goes on with the next worker, and its callers see nothing.
PERMITS = {
    "broker": BREAKS | REFUSES | ENDS,
    "valkey": BREAKS | REFUSES | ENDS,
    "web": BREAKS | REFUSES,
    "web server": BREAKS | REFUSES,
}
#: In this order a part is not hurt twice within the minute after which a supervisor forgets a failure.
KILLED: tuple[str, ...] = ("web", "llm", "sd", "control", "quick", "valkey", "text engine", "beat", "image engine")
KILLED += ("web server", "flower", "broker")
#: Workers are asked to end by a drain (chaos/faults/operators.py): they stay away then.
TERMINATED = ("text engine", "web", "beat", "image engine", "flower", "web server", "valkey")
FROZEN = ("llm", "web server", "sd", "valkey", "quick", "text engine", "control", "image engine", "up")
TOGETHER = (("llm", "control"), ("web", "sd"), ("valkey", "llm"), ("text engine", "quick"))
SHORT = ("kill llm", "kill web", "kill valkey", "kill sd")


def kill(parts: tuple[str, ...], system: System) -> None:
    """Kill parts at once; their supervisor starts them again."""
    system.kill(*parts)


def terminate(part: str, system: System) -> None:
    """Ask a part to end; its supervisor starts it again."""
    pid = system.signal(part, signal.SIGTERM)
    system.harm_done()
    eventually(lambda: system.pids().get(part) != pid, ENDED_S)


def freeze(part: str, system: System) -> None:
    """Have a part stand still for some seconds, shorter than a lease."""
    system.freeze(part, FROZEN_S)


def roll(system: System) -> None:
    """Ask one part after the other to end, as soon as the one before is back: a rolling restart."""
    for part in ("beat", "web", "flower"):
        terminate(part, system)
        wait_for(system.is_whole, ENDED_S)
    system.harm_done()


def freeze_past_lease(system: System) -> None:
    """Have a worker stand still until another one has taken its tasks; then it goes on, and must not write any more."""
    with system.spare_worker("llm"):
        system.wait_until_busy("llm")
        refused = system.count_ends("stale")
        system.freeze("llm", PAST_LEASE_S)
        # What the frozen worker had is done by the other one now; it tries to go on.
        system.wait_for_end_of_attempt("stale", refused)


def kill_beside_another(system: System) -> None:
    """Kill a worker; another one is there."""
    with system.spare_worker("llm"):
        system.wait_until_busy("llm")
        system.kill("llm")
        wait_for(system.is_whole, ENDED_S)


def kill_everything(system: System) -> None:
    """Kill the supervisor and all parts at once, and start everything anew, as a machine that loses its power."""
    for pid in system.stack.command_lines():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    system.harm_done()
    eventually(lambda: not system.stack.command_lines(), STOP_S)
    system.start()


def kill_supervisor(system: System) -> None:
    """Kill the supervisor alone: the kernel has its parts end. Start everything anew."""
    system.signal("up", signal.SIGKILL)
    eventually(lambda: not system.stack.command_lines(), ENDED_S)
    # They end in order, and take the time that work under way takes.
    system.harm_done()
    system.start()


def _permits(*parts: str) -> frozenset[str]:
    return frozenset().union(*(PERMITS.get(part, frozenset()) for part in parts))


def _fault(name: str, what: str, apply: partial[None], permits: frozenset[str]) -> Fault:
    return Fault(name, "processes", what, apply, short=name in SHORT, permits=permits)


#: A whole restart: every connection ends, and until web is back nobody is served.
ALL = BREAKS | REFUSES | ENDS
KILLS = [_fault(f"kill {part}", f"`kill -9` of {part}", partial(kill, (part,)), _permits(part)) for part in KILLED]
ENDINGS = [_fault(f"end {part}", f"SIGTERM to {part}", partial(terminate, part), _permits(part)) for part in TERMINATED]
STOPS = [
    _fault(f"freeze {part}", f"SIGSTOP of {part} for {FROZEN_S:g} s", partial(freeze, part), _permits(part))
    for part in FROZEN
]
PAIRS = [
    _fault(
        f"kill {' and '.join(pair)}", f"`kill -9` of {' and '.join(pair)} at once", partial(kill, pair), _permits(*pair)
    )
    for pair in TOGETHER
]
OTHERS = [
    Fault("rolling SIGTERM", "processes", "SIGTERM to beat, web and Flower, one after the other", roll, permits=ALL),
    Fault(
        "freeze llm past its lease",
        "processes",
        f"SIGSTOP of a worker for {PAST_LEASE_S:g} s beside another one, which takes its tasks; then it goes on",
        freeze_past_lease,
        short=True,
    ),
    Fault("kill llm beside another", "processes", "`kill -9` of one of two text workers", kill_beside_another),
    Fault(
        "kill up",
        "processes",
        "`kill -9` of `graycat up` alone, which is then started again",
        kill_supervisor,
        permits=ALL,
        starts_anew=True,
    ),
    Fault(
        "power cut",
        "processes",
        "`kill -9` of `graycat up` and all parts, then a new start",
        kill_everything,
        permits=ALL,
        starts_anew=True,
    ),
]
FAULTS = [*KILLS, *STOPS, *ENDINGS, *PAIRS, *OTHERS]
