"""Work that waits and runs for longer than it may: it expires in its queue, or is stopped."""

from __future__ import annotations

from typing import Any

from chaos.faults import Fault
from chaos.ledger import Accepted, Caller
from chaos.system import System

#: Seconds that such a task may wait and run, and its tokens: many more than it has time for.
WAITS_S, RUNS_S, TOKENS = 1.0, 2.0, 500
#: How many there are of each kind.
TASKS = 3
#: The paused queue. The operator of the load pauses and resumes others.
QUEUE = "llm"


def submit(system: System, what: str, state: str, **fields: Any) -> str:
    """Submit a text that must end in a state; return its name."""
    name = system.ledger.new_name(what)
    body = {"kind": "llm.completion", "input": {"prompt": name, "n_predict": TOKENS, "stream": True}, **fields}
    answer = system.request("PUT", f"/tasks/{name}", "rest", json=body, headers={"X-Request-ID": name})
    answer.raise_for_status()
    system.ledger.accept(Accepted(name, Caller.REST, answer.json()["id"], may_end=(state,)))
    return name


def expire(system: System) -> None:
    """Have tasks wait in a paused queue for longer than they may; each must expire, and never run."""
    system.command("queue", "pause", QUEUE)
    try:
        names = [submit(system, "overdue", "expired", queue_ttl_s=WAITS_S) for _ in range(TASKS)]
        for name in names:
            system.wait_for_end(name)
    finally:
        system.command("queue", "resume", QUEUE)
        system.harm_done()


def overrun(system: System) -> None:
    """Have tasks run for longer than they may; each must be stopped at its time."""
    names = [submit(system, "overrun", "failed", exec_timeout_s=RUNS_S) for _ in range(TASKS)]
    for name in names:
        system.wait_for_end(name)
    system.harm_done()


FAULTS = [
    Fault("wait for too long", "deadlines", f"{TASKS} tasks wait for longer than they may, {WAITS_S:g} s", expire),
    Fault("run for too long", "deadlines", f"{TASKS} tasks run for longer than they may, {RUNS_S:g} s", overrun),
]
