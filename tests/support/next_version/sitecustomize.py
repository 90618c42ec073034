"""Makes a graycat process of its next version: Python loads this file if its folder is on PYTHONPATH.

The report to the fleet has more fields, messages have more headers, records have more fields, there is one more kind of
event, and one more kind of task; commands to workers have more arguments, and one more is sent.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

#: The kind of task that this version does not know.
NEW_KIND = "llm.ponder"


def change_workers(module: Any) -> None:
    """Report more."""

    def more_fields(status: Any) -> dict[str, Any]:
        fields = dataclasses.asdict(status)
        fields["gpu_state"] = {"utilization": 7, "memory_used": 1, "memory_total": 2, "temperature": 40, "fan": 3}
        return fields | {"planet": {"name": "Mars", "moons": 2}, "drafts": [1, None], "regions": ["eu"]}

    module.asdict = more_fields


def change_messages(module: Any) -> None:
    """Put more into a task's message."""
    make = module.MessageFactory.make

    def make_more(self: Any, *args: Any, **options: Any) -> bytes:
        message = json.loads(make(self, *args, **options))
        message["headers"] |= {"region": "eu", "hops": [1, {"at": None}]}
        message["properties"] |= {"class": "gold"}
        return json.dumps(message | {"version": 3}).encode()

    module.MessageFactory.make = make_more


def change_records(module: Any) -> None:
    """Write more fields, and one more event when an attempt begins."""
    create, claim = module.TaskRecords.create, module.TaskRecords.claim

    def create_more(self: Any, task: Any, message: bytes) -> bool:
        is_new = create(self, task, message)
        self._client.hset(module.record_key(task.id), mapping={"region": "eu", "shards": "[1, 2]", "thought": b"\xff"})
        return bool(is_new)

    def claim_more(self: Any, task_id: str, worker: str, *others: Any, **more: Any) -> Any:
        attempt = claim(self, task_id, worker, *others, **more)
        if isinstance(attempt, str):
            return attempt
        event = {"kind": "pondered", "data": b"7 thoughts", "since": "v3"}
        event_id = self._client.xadd(module.events_key(task_id), event).decode()
        for channel in attempt.channels:
            self._client.publish(channel, f"{task_id} {event_id} pondered 7 thoughts")
        return dataclasses.replace(attempt, started_id=event_id)

    module.TaskRecords.create = create_more
    module.TaskRecords.claim = claim_more


def change_kinds(module: Any) -> None:
    """Know one more kind."""
    kind = module.Kind(NEW_KIND, module.LLM, "/completion", ending=b'"stop":true')
    module.KINDS[NEW_KIND] = module.LLM_KINDS[NEW_KIND] = kind


def change_control(module: Any) -> None:
    """Send workers more arguments, and a command that they do not know."""

    def broadcast_more(app: Any, task_id: str, worker: str, how: str) -> None:
        app.control.broadcast("hold_task", arguments={"task_id": task_id}, destination=[worker])
        arguments = {"task_id": task_id, "how": str(how), "why": "the next version knows"}
        app.control.broadcast("stop_task", arguments=arguments, destination=[worker])

    module.broadcast_stop = broadcast_more


CHANGES: dict[str, Callable[[Any], None]] = {
    "graycat.fleet.workers": change_workers,
    "graycat.queue.messages": change_messages,
    "graycat.queue.records": change_records,
    "graycat.queue.kinds": change_kinds,
    "graycat.queue.control": change_control,
}


class ChangedModules(MetaPathFinder):
    """Changes modules when they are imported: before that, gevent may not have patched what they import."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Return the spec of a module that is changed after its own code has run."""
        change = CHANGES.get(fullname)
        spec = PathFinder.find_spec(fullname, path, target) if change else None
        if spec is None or change is None:
            return None
        loader: Any = spec.loader
        run = loader.exec_module

        def run_and_change(module: Any) -> None:
            run(module)
            change(module)

        loader.exec_module = run_and_change
        return spec


sys.meta_path.insert(0, ChangedModules())
