"""Known ways to break graycat, each put into its processes when they import what it changes.

A mutation that finds nothing to change any more raises DoesNotApply: the process ends before it has done anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Change = Callable[[Any], None]
SCRIPTS_MODULE = "graycat.broker.scripts"
#: The line of conclude.lua that writes how a task has ended.
LAST_EVENT = "redis.call('HSET', record, 'last_event', emit(keep[3], kind, data))"


class DoesNotApply(Exception):
    """Raised if what a mutation changes is not there."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """What is broken, and the changes of modules that break it, by their names."""

    what: str
    changes: dict[str, list[Change]]


def edit(script: str, old: str, new: str) -> dict[str, list[Change]]:
    """Return the change of a script (``queue/finish``): a text that is there once becomes another."""
    return edit_all(script, {old: new})


def edit_all(script: str, texts: Mapping[str, str]) -> dict[str, list[Change]]:
    """Return the change of a script in which several texts become others; each must be there once."""

    def change(module: Any) -> None:
        room, _, name = script.partition("/")
        text = (Path(module.__file__).parents[1] / room / "lua" / f"{name}.lua").read_text(encoding="utf-8")
        for old in texts:
            if text.count(old) != 1:
                raise DoesNotApply(f"{script}.lua has {text.count(old)} times: {old}")
        edited = text
        for old, new in texts.items():
            edited = edited.replace(old, new)
        load = module.load

        def load_edited(path: Path) -> str:
            # The script itself, or one that requires it.
            return str(load(path)).replace(text, edited)

        module.load = load_edited

    return {SCRIPTS_MODULE: [change]}


def replace(module_name: str, path: str, wrap: Callable[[Any], Any]) -> dict[str, list[Change]]:
    """Return the change of a function or method (``Sweeper.sweep``): ``wrap`` makes the new one of the old one."""

    def change(module: Any) -> None:
        *owners, name = path.split(".")
        owner = module
        try:
            for part in owners:
                owner = getattr(owner, part)
            # A method that is inherited is not one that this class has.
            old = vars(owner)[name]
        except (AttributeError, KeyError):
            raise DoesNotApply(f"{module_name} has no {path}") from None
        setattr(owner, name, wrap(old))

    return {module_name: [change]}


def returning(value: Any) -> Callable[[Any], Any]:
    """Return what makes a function that does nothing."""
    return lambda _old: lambda *_args, **_options: value


def acknowledge_early(old: Any) -> Any:
    """Make Celery's settings those of a worker that acknowledges a message when it takes it."""

    def tasks() -> dict[str, Any]:
        settings: dict[str, Any] = old()
        if not settings.get("task_acks_late"):
            raise DoesNotApply("messages are acknowledged early already")
        return settings | {"task_acks_late": False}

    return tasks


def ignore_cancels(old: Any) -> Any:
    """Make a call to an engine that no cancel stops."""

    def stop(self: Any, reason: Any) -> Any:
        if str(reason) != "cancelled":
            return old(self, reason)
        return None

    return stop


def twice(old: Any) -> Any:
    """Make a function that does everything twice."""

    def both(*args: Any, **options: Any) -> Any:
        old(*args, **options)
        return old(*args, **options)

    return both


def widen(old: Any) -> Any:
    """Make a worker that takes four times as many tasks as its engine has slots."""
    return property(lambda self: 4 * old.fget(self))


MUTATIONS: dict[str, Mutation] = {
    "no fence in publish": Mutation(
        "chunks of an attempt that was replaced are written, under new numbers",
        edit_all(
            "queue/publish",
            {
                "if r[1] ~= 'running' or r[2] ~= ARGV[1] or #r[4] > 8192 then": "if not r[1] then",
                "'MAXLEN', '~', 20000, id, 'kind', 'chunk'": "'MAXLEN', '~', 20000, '*', 'kind', 'chunk'",
            },
        ),
    ),
    "no fence in finish": Mutation(
        "an attempt that was replaced ends the task again",
        edit(
            "queue/finish", "if r[1] ~= 'running' or r[2] ~= ARGV[1] then return 0 end", "if not r[1] then return 0 end"
        ),
    ),
    "no lease renewal": Mutation(
        "a worker does not renew the leases of what it runs",
        replace("graycat.worker.maintenance", "WorkerMaintenance._renew", returning(None)),
    ),
    "ack before finish": Mutation(
        "a message is acknowledged when its task begins", replace("celeryconfig", "_tasks", acknowledge_early)
    ),
    "no sweeper": Mutation(
        "nobody looks for lost messages", replace("graycat.worker.sweeper", "Sweeper.sweep", returning(0))
    ),
    "lost turn": Mutation(
        "the message of the task whose turn it is does not enter the queue",
        edit("queue/turns", "take_turn(queue, owner, id, r[2])", ""),
    ),
    "no takeover": Mutation(
        "messages of a worker that died stay with it",
        replace("graycat.broker.transport", "QoS.restore_visible", returning(None)),
    ),
    "budget not given back": Mutation(
        "what an ended task was charged with stays charged",
        replace("graycat.queue.stored", "StoredBytes.settle", returning(None)),
    ),
    "result stored twice": Mutation(
        "an answer is two events",
        edit("queue/conclude", LAST_EVENT, f"{LAST_EVENT}\n  {LAST_EVENT}"),
    ),
    "cancel ignored": Mutation(
        "a worker goes on with what was cancelled", replace("graycat.engines.client", "Call.stop", ignore_cancels)
    ),
    "no time limit": Mutation(
        "a worker does not stop what runs for too long",
        replace("graycat.worker.maintenance", "WorkerMaintenance._stop_overdue", returning(None)),
    ),
    "overdue tasks run": Mutation(
        "a task that has waited for too long is started",
        edit("queue/claim", "if attempt == 0 and now > tonumber(r[4]) then", "if false then")
        | replace("graycat.queue.records", "TaskRecords.expire", returning(False)),
    ),
    "attempts not counted": Mutation(
        "a second attempt has the number of the first",
        edit("queue/claim", "attempt = attempt + 1\n", "attempt = math.max(attempt, 1)\n"),
    ),
    "webhook told twice": Mutation(
        "each delivery is sent twice", replace("graycat.webhooks.http", "PublicHttpClient.post", twice)
    ),
    "gate too wide": Mutation(
        "a worker takes more tasks than its engine has slots",
        replace("graycat.worker.runtime", "EngineRuntime.slots", widen),
    ),
    "usage counted twice": Mutation(
        "a task is counted twice", edit("usage/count", "before + ARGV[i + 1]", "before + 2 * ARGV[i + 1]")
    ),
    "a name makes two tasks": Mutation(
        "a task that is submitted again is made anew",
        edit("queue/create", "if redis.call('EXISTS', record) == 1 then return 0 end", ""),
    ),
}
