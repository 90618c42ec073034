"""Celery's own control commands, where they would act behind graycat's back; ``docs/operating.md`` has them all.

What Celery does with them is in the memory of one worker only: a revoked task is discarded there, a limited one waits
there. Its record says queued, so its caller waits, and so do its owner's other tasks. Here ``revoke`` and ``terminate``
end the task by its record. Commands that graycat has no use for change nothing, and say what to do instead.

``celery -A graycat control --list`` lists them without a worker, so heavy modules are imported only in a call.
"""

from __future__ import annotations

from typing import Any

from celery.worker.control import control_command

Reply = dict[str, str]
#: A command runs in the consumer's main loop, which must not stand still for long.
MAX_IDS = 1000

NO_IDS = {"error": f"give the ids of 1 to {MAX_IDS} tasks"}
NO_STAMPS = {"ok": "nothing is revoked: graycat's tasks have no stamps; revoke them by their ids"}
#: Commands that change nothing here, and what they reply.
REFUSED = {
    "rate_limit": "tasks have no rate limit: limit an API token (graycat tokens create --rate) or pause a queue",
    "time_limit": "deadlines are settings: GRAYCAT_EXEC_TIMEOUT_S and GRAYCAT_SD_EXEC_TIMEOUT_S",
    "pool_grow": "a worker runs as many tasks at once as its engine has slots: set those",
    "pool_shrink": "a worker runs as many tasks at once as its engine has slots: set those",
    "autoscale": "a worker runs as many tasks at once as its engine has slots: set those",
    "pool_restart": "the pool is never restarted: drain the worker (graycat worker drain) and start it again",
    "election": "workers elect no leader: they use locks in the broker",
}


@control_command(variadic="task_id", signature="[id1 [id2 [... [idN]]]]")
def revoke(_state: Any, task_id: Any = None, terminate: Any = False, **_: Any) -> Reply:
    """Cancel queued tasks by their ids; running tasks go on."""
    return _revoke(task_id, terminate=bool(terminate))


@control_command(variadic="task_id", args=[("signal", str)], signature="<signal> [id1 [id2 [... [idN]]]]")
def terminate(_state: Any, task_id: Any = None, **_: Any) -> Reply:
    """Cancel queued and running tasks by their ids; no process gets the signal."""
    return _revoke(task_id, terminate=True)


def _revoke(task_id: Any, *, terminate: bool) -> Reply:
    from graycat.worker import revocation

    names = task_id
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, list) or not 0 < len(names) <= MAX_IDS:
        return NO_IDS
    return revocation.revoke(list(dict.fromkeys(map(str, names))), terminate=terminate)


@control_command(variadic="headers", signature="[key1=value1 [key2=value2 [... [keyN=valueN]]]]")
def revoke_by_stamped_headers(_state: Any, **_: Any) -> Reply:
    """Change nothing: graycat's tasks have no stamps."""
    return NO_STAMPS


@control_command(args=[("queue", str)], signature="<queue>")
def add_consumer(state: Any, queue: Any = None, **_: Any) -> Reply:
    """Take from a queue again that the worker has left."""
    from graycat.worker.runtime import process

    served = process.served_queues()
    if queue not in served:
        return {"error": f"this worker serves other queues only: {', '.join(served)}"}
    state.consumer.call_soon(state.consumer.add_task_queue, queue)
    return {"ok": f"takes from {queue}"}


def _refuse(name: str, reason: str) -> None:
    """Have a command of Celery's change nothing."""

    def command(_state: Any, **_: Any) -> Reply:
        return {"error": reason}

    control_command(name=name, help=f"Change nothing: {reason}.")(command)


for _name, _reason in REFUSED.items():
    _refuse(_name, _reason)
