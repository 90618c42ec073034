"""A web server that dies, or is replaced, while hundreds read along: all come back at once, and none loses a byte."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from statistics import quantiles

from chaos.faults import BREAKS, REFUSES, Fault
from chaos.ledger import Accepted, Caller
from chaos.recovery import MAX_GAP_S
from chaos.system import UNHURRIED, System
from tests.support.boxes import FAKE
from tests.support.following import Follower, Following, on_record, text_on_record
from tests.support.processes import eventually
from tests.support.stack import START_S

#: Streams that are open, each of a task of its own; tokens of each, and seconds between two.
STREAMS, TOKENS, TOKEN_S = 200, 100, 0.25
#: Seconds that a reader gets for its whole task.
WHOLE_S = 120.0
ENV = {
    "STARTUP_COMMAND": f"{FAKE} --port {{port}} --interval {TOKEN_S} --slots {STREAMS + 20} --counts --tells-prompts",
    "GRAYCAT_STOP_GRACE_S": "60",
    **UNHURRIED,
}
#: Tasks that are submitted at a time.
SUBMITS = 16
#: A worker with so many slots makes its threads when it first needs them; the streams of the load last for ten seconds.
SLOW_ENGINE = frozenset({"grown", "slow"})


class Unlike(Exception):
    """Raised if a reader has something else than what was made for it, or has waited for too long."""


def submit(system: System) -> str:
    """Submit a task; return its name."""
    name = system.ledger.new_name("reader")
    body = {"kind": "llm.completion", "input": {"prompt": name, "n_predict": TOKENS, "stream": True}}
    answer = system.request("PUT", f"/tasks/{name}", "rest", json=body, headers={"X-Request-ID": name})
    answer.raise_for_status()
    system.ledger.accept(Accepted(name, Caller.REST, answer.json()["id"]))
    return name


def kill(system: System) -> None:
    """Kill the web server's processes at once."""
    for part in ("web server", "web"):
        os.kill(system.pid(part), signal.SIGKILL)


def replace(system: System) -> None:
    """Have gunicorn replace the process that serves."""
    old = system.pid("web server")
    system.signal("web", signal.SIGHUP)
    eventually(lambda: system.pids().get("web server") not in (None, old), START_S)


def read_through(system: System, *, replaces: bool) -> None:
    """Have all read along, hurt the web server, and compare what each has with what is on record.

    Raises Unlike if one has lost a byte, or has one twice.
    """
    with ThreadPoolExecutor(SUBMITS) as pool:
        names = list(pool.map(lambda _: submit(system), range(STREAMS)))
    followers = [Follower([system.url], f"/tasks/{name}", system.tokens["rest"]) for name in names]
    with ThreadPoolExecutor(STREAMS) as pool:
        reads = [pool.submit(follower.read, WHOLE_S) for follower in followers]
        eventually(lambda: all(len(follower.seen.events) > 3 for follower in followers), WHOLE_S)
        hurt_at = time.monotonic()
        if replaces:
            replace(system)
        else:
            kill(system)
        system.harm_done()
        compare(system, names, reads, connections=1 if replaces else 2)
    gaps = [follower.seen.longest_gap_s(hurt_at) for follower in followers]
    cuts = quantiles(gaps, n=100)
    if cuts[94] > MAX_GAP_S:
        raise Unlike(f"p95 of the gaps in the streams is {cuts[94]:.1f} s, and {MAX_GAP_S:g} s are promised")
    system.notes.append(f"gap p50 {cuts[49]:.2f} s, p95 {cuts[94]:.2f} s, max {max(gaps):.2f} s")


def compare(system: System, names: list[str], reads: list[Future[Following]], connections: int) -> None:
    """Compare what readers have with what is on record, and with what the engine counts."""
    expected = "".join(f"{number} " for number in range(TOKENS))
    for name, read in zip(names, reads, strict=True):
        seen = read.result(WHOLE_S)
        task_id = system.stack.task_id(name)
        if [(event_id, kind) for event_id, kind, _ in seen.events] != on_record(system.redis(), task_id):
            raise Unlike(f"{name} has other events than the record")
        if not seen.text == text_on_record(system.redis(), task_id) == expected:
            raise Unlike(f"{name} has the text {seen.text!r}")
        if seen.connections != connections:
            raise Unlike(f"{name} had {seen.connections} connections in place of {connections}")


FAULTS = [
    Fault(
        f"kill web under {STREAMS} streams",
        "streams",
        f"both processes of web are killed under {STREAMS} readers of tasks, who come back at once with Last-Event-ID",
        partial(read_through, replaces=False),
        env=ENV,
        permits=BREAKS | REFUSES | SLOW_ENGINE,
    ),
    Fault(
        f"replace web under {STREAMS} streams",
        "streams",
        f"gunicorn replaces its process (SIGHUP) under {STREAMS} readers of tasks; none of them is cut off",
        partial(read_through, replaces=True),
        env=ENV,
        permits=SLOW_ENGINE,
    ),
]
