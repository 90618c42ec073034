"""The names of the loops that serve many callers. docs/loops.md has a row for each.

A loop with a thread of its own runs in a GuardedThread. A loop that runs in another one's thread, or in a library's,
has only its name, which it gives to ``graycat.loops.unexpected``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoopKind:
    """What a loop needs.

    ``stuck_after_s``: seconds that one item may take; ``vital``: whether its process serves nothing without it.
    """

    stuck_after_s: float = 5.0
    vital: bool = False


#: The loops that have a thread of their own, by their names.
THREADS: Mapping[str, LoopKind] = {
    # Longer than it takes to notice that the connection is dead, and to connect again.
    "hub": LoopKind(8.0, vital=True),
    "token watch": LoopKind(),
    "stream relay": LoopKind(vital=True),
    "maintenance": LoopKind(vital=True),
    # A step may stop an engine (6 s), or wait for the lists of a slow one.
    "supervisor": LoopKind(30.0, vital=True),
    "control": LoopKind(vital=True),
    # A disk or a bucket may be slow.
    "batch steps": LoopKind(60.0),
    "artifacts": LoopKind(300.0),
    "gpu": LoopKind(),
    # The engine answers between two batches of a prompt.
    "slots": LoopKind(60.0),
    "metrics server": LoopKind(),
    "process reporter": LoopKind(15.0),
    # A terminal that is halted (Ctrl-S) takes no line.
    "output": LoopKind(60.0),
}

#: The loops that run in a thread of the ones above, in a request, or in a library.
PLACES = frozenset(
    {
        "api tokens",
        "batch items",
        "batch runner",
        "batch throughput",
        "batches",
        "beat",
        "catalogs",
        "disconnect watcher",
        "dispatcher",
        "ended tokens",
        "fleet",
        "flower events",
        "front",
        "gallery",
        "gate",
        "live batches",
        "models",
        "publisher",
        "queue",
        "records",
        "render watcher",
        "schedules",
        "snapshot",
        "sweeper",
        "tasks",
        "unacknowledged messages",
        "unknown kinds",
        "usage",
        "web disconnects",
        "webhook sender",
        "wrong keys",
    }
)
#: The loops of Celery, which survive by themselves what they cannot use.
CELERY = frozenset({"consumer", "remote control"})
NAMES = frozenset(THREADS) | PLACES | CELERY
