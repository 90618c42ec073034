"""What ``graycat status`` says to do next: for each trouble a sentence, and the command to type if there is one."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graycat.cli.statusview import FULL_SHARE
from graycat.redaction.terminal import one_line

#: With less than this free in the folder of GRAYCAT_HOME, its disk is low: bytes.
LOW_DISK_BYTES = 2_000_000_000
WATCH = "graycat status --watch"
#: How the reason begins why a server is not served; the names of queues follow (``web/api/health.py``).
UNSERVED = "no worker consumes "
#: Engines that only need time.
COMING = ("downloading", "loading")
#: Steps that are shown. The first ones are the reason of many others.
MAX_STEPS = 8
#: Characters of what a worker says of its trouble.
MAX_TROUBLE_CHARS = 120


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do. ``command``: what to type; '' if the sentence says it all."""

    sentence: str
    command: str = ""


def format_steps(steps: Iterable[Step]) -> str:
    """Return the last paragraph of the screen."""
    shown = list(steps)
    if not shown:
        return "nothing to do"
    lines = ["WHAT TO DO NEXT"]
    for step in shown[:MAX_STEPS]:
        lines.append(f"- {one_line(step.sentence)}")
        if step.command:
            lines.append(f"    {one_line(step.command)}")
    if len(shown) > MAX_STEPS:
        lines.append(f"- and {len(shown) - MAX_STEPS} more; begin with the first")
    return "\n".join(lines)


def find_steps(status: dict[str, Any]) -> list[Step]:
    """Return what to do about the troubles in a server's status, the worst first; nothing if there are none."""
    steps = list(_steps(status))
    if not steps and not status["served"]:
        steps.append(Step(f"Not served: {status['reason']}. If it has just been started, wait, and watch it:", WATCH))
    return steps


def _steps(status: dict[str, Any]) -> Iterator[Step]:
    if not status.get("broker"):
        yield Step(
            "The broker does not answer. Start it; the embedded one is a part of 'graycat up', and its log is "
            "valkey.log in GRAYCAT_HOME/broker (docs/broker.md)."
        )
        return
    yield from _memory_steps(status.get("held", {}))
    for process in status.get("processes", []):
        yield from _process_steps(process)
    for worker in status["workers"]:
        yield from _worker_steps(worker)
    for name in status["missed"]:
        yield Step(
            f"{name} fell silent without a word. Look at its machine; its tasks run elsewhere. It is on this list for "
            "ten minutes."
        )
    yield from _queue_steps(status)
    yield from _batch_steps(status["batches"])
    yield from _other_steps(status)


def find_disk_steps(home: Path) -> Iterator[Step]:
    """Yield what to do if the disk of GRAYCAT_HOME is nearly full."""
    try:
        free = shutil.disk_usage(home).free
    except OSError:
        return
    if free < LOW_DISK_BYTES:
        yield Step(
            f"The disk of {home} is nearly full: {free / 1e9:.1f} GB are free. See what is large:",
            f"du -sh {_word(home)}/*",
        )


def _memory_steps(held: dict[str, Any]) -> Iterator[Step]:
    if held.get("most") and held.get("used", 0) >= FULL_SHARE * held["most"]:
        yield Step(
            "The broker is full and takes no new task. Give it more with GRAYCAT_BROKER_MAX_MEMORY_MIB, or keep images "
            "for less time with GRAYCAT_ARTIFACT_TTL_S (docs/operating.md, Memory)."
        )


def _process_steps(process: dict[str, Any]) -> Iterator[Step]:
    name, machine = process["name"], process["machine"]
    if process["state"] == "crash loop":
        yield Step(
            f"{name} on {machine} ends again and again ({process['last_end']}). See there what is wrong:",
            "graycat up --check",
        )
    elif process["state"] == "drained":
        yield Step(
            f"{name} on {machine} was drained and stays away. To have it back, there:", f"graycat worker {_word(name)}"
        )


def _worker_steps(worker: dict[str, Any]) -> Iterator[Step]:
    name = worker["name"]
    trouble = (worker["trouble"].removeprefix("crash loop: ") or worker["last_failure"])[:MAX_TROUBLE_CHARS]
    if worker.get("stuck"):
        yield Step(f"{name} is stuck ({', '.join(worker['stuck'])}). Restart it (docs/loops.md).")
    if worker["crash_loop"]:
        kind = name.partition("@")[0].replace("quick", "llm")
        yield Step(
            f"The engine of {name} cannot be kept running ({trouble}). Its own words, on its machine:",
            f"graycat logs {_word(kind)}",
        )
    elif worker["engine_state"] in COMING:
        yield Step(f"{name} is {worker['engine_state']} its model. Wait, and watch it:", WATCH)
    elif worker["paused"]:
        yield Step(f"{name} is paused and takes nothing. To go on:", f"graycat worker resume {_word(name)}")
    elif trouble and not worker["consuming"]:
        yield Step(f"{name} takes no tasks: {trouble}.")


def _queue_steps(status: dict[str, Any]) -> Iterator[Step]:
    needed: list[str] = []
    if status["reason"].startswith(UNSERVED):
        needed = status["reason"].removeprefix(UNSERVED).split(", ")
    for queue in status["queues"]:
        name = queue["name"]
        if queue["paused"]:
            yield Step(f"The queue {name} is paused: its tasks wait. To go on:", f"graycat queue resume {_word(name)}")
        elif not queue["consumers"] and (queue["depth"] or name in needed) and not _has_worker(status["workers"], name):
            yield Step(
                f"No worker takes from the queue {name}; tasks that wait for one: {queue['depth']}. Start one:",
                f"graycat worker {_word(_worker_of(name))}",
            )


def _has_worker(workers: list[dict[str, Any]], queue: str) -> bool:
    """Return whether there is a worker for a queue. If it takes nothing, another step says why."""
    return any(queue in worker["queues"] for worker in workers)


def _worker_of(queue: str) -> str:
    """Return the kind of worker that takes from a queue."""
    if queue.endswith(".quick"):
        return "quick"
    return queue.partition(".")[0]


def _batch_steps(batches: dict[str, Any]) -> Iterator[Step]:
    paused, late = batches["states"].get("paused", 0), batches["late"]
    if paused:
        yield Step(
            f"Paused batches: {paused}. See why, then 'graycat batch resume ID':",
            "graycat batch list --state paused",
        )
    if late:
        yield Step(f"Late batches: {late}. See what they wait for:", "graycat batch list --state running")


def _other_steps(status: dict[str, Any]) -> Iterator[Step]:
    if status.get("schedules") and not status.get("beat"):
        yield Step(f"No beat runs, so schedules do not fire: {status['schedules']}. Start one:", "graycat beat")
    if status.get("unreadable"):
        yield Step("Another program has written to keys of the broker that are graycat's (docs/broker.md).")
    if status.get("notes"):
        yield Step(
            "An alias stands for a model that no worker has. Change GRAYCAT_MODEL_ALIASES, or start a worker with the "
            "model (docs/models.md)."
        )


def _word(text: object) -> str:
    """Return a text as one word for a shell: names come from other machines."""
    return shlex.quote(one_line(str(text)))
