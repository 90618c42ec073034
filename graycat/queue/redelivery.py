"""Redelivery: how the tasks of a worker that died come back to their queues.

A message that a worker has taken lies among the *unacknowledged* ones of its kind until its task has ended, with a
deadline (kombu calls it the visibility timeout). A living worker renews the deadlines of its messages
(``worker/periodic.py``). Once a second, each worker puts messages whose deadline has passed back on their queues. Then
``queue/lua/claim.lua`` lets a new attempt begin, or ends the task if it was tried as often as allowed.

Messages that the broker itself has lost are another matter: ``worker/sweeper.py``.
"""

from __future__ import annotations

from typing import Any

from graycat.queue.topology import QUEUES, WORKER_KINDS
from graycat.settings import Settings


def redelivery_options(settings: Settings, kind: str) -> dict[str, Any]:
    """Return kombu's transport options for redelivery, for workers of a kind ('' for one of all kinds)."""
    return {
        **unacked_keys(kind),
        # Seconds after which a dead worker's messages come back; ``worker/periodic.py`` renews those of a living one.
        "visibility_timeout": settings.lease_s,
        # Look for them every second (the defaults look every 100 s).
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        # A worker that is killed while it restores must not keep others from it for five minutes.
        "unacked_mutex_expire": 10,
    }


def restored_queues(kind: str) -> tuple[str, ...]:
    """Return the shared queues that unacknowledged messages of a kind of workers ('' for all) are put back on."""
    if kind in WORKER_KINDS:
        return WORKER_KINDS[kind].queues
    return QUEUES


def unacked_keys(kind: str) -> dict[str, str]:
    """Return the keys in which workers of a kind keep the messages that they have taken and not acknowledged.

    Each kind has its own, so that the worker which restores what a dead worker has left needs no access to the queues
    of other kinds.
    """
    suffix = ""
    if kind:
        suffix = f":{kind}"
    return {
        "unacked_key": f"unacked{suffix}",
        "unacked_index_key": f"unacked_index{suffix}",
        "unacked_mutex_key": f"unacked_mutex{suffix}",
    }


def unacked_types(kind: str) -> dict[str, str]:
    """Return the same keys with their types."""
    names = unacked_keys(kind)
    return {
        names["unacked_key"]: "hash",
        names["unacked_index_key"]: "zset",
        names["unacked_mutex_key"]: "string",
    }
