"""How ``graycat status`` looks on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

#: Characters of a worker's trouble that are shown.
TROUBLE = 60
Row = Sequence[str]


def screen(told: dict[str, Any], url: str) -> str:
    """Return a screen of what a server tells of itself."""
    verdict = "games are served" if told["served"] else f"NOT SERVED: {told['reason']}"
    parts = [f"{url}: {verdict}"]
    if told.get("broker"):
        parts.append(table(("QUEUE", "WAITING", "OLDEST", "WORKERS", ""), map(_queue, told["queues"])))
        workers = [*map(_worker, told["workers"]), *((name, "", "silent", "", "", "") for name in told["missed"])]
        parts.append(table(("WORKER", "ENGINE", "STATE", "BUSY", "GPU", ""), workers))
        held = told["held"]
        kept = f"events {size(held['events'])}, images {size(held['artifacts'])}"
        parts.append(f"the broker holds {kept}; deliveries to webhooks that wait: {told['deliveries']}")
        parts += _batches(told["batches"])
    if told["failures"]:
        parts.append(table(("LAST ERRORS", "KIND", "ENDED", "TYPE", "WORKER", "TASK"), map(_failure, told["failures"])))
    return "\n\n".join(parts)


def _batches(told: dict[str, Any]) -> list[str]:
    """Return a line about image batches, where there are any that have not ended."""
    going = {state: told["states"][state] for state in ("running", "queued", "paused") if told["states"][state]}
    if not going:
        return []
    items = told["items"]
    late = f"; LATE: {told['late']}" if told["late"] else ""
    counts = ", ".join(f"{count} {state}" for state, count in going.items())
    return [f"batches: {counts}; {items['done']} of {sum(items.values())} images made{late}"]


def table(head: Row, rows: Iterable[Row]) -> str:
    """Return rows under a head, in columns."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
                     for line in lines)  # fmt: skip


def _queue(queue: dict[str, Any]) -> Row:
    oldest = duration(queue["oldest_s"]) if queue["depth"] else "-"
    notes = ["paused"] if queue["paused"] else []
    notes += ["nobody takes from it"] if queue["depth"] and not queue["consumers"] else []
    return queue["name"], str(queue["depth"]), oldest, str(queue["consumers"]), ", ".join(notes)


def _worker(worker: dict[str, Any]) -> Row:
    state = worker["engine_state"] if worker["engine"] else "-"
    notes = ["paused"] if worker["paused"] else [] if worker["consuming"] else ["takes nothing"]
    notes += [f"has left {', '.join(worker['left'])}"] if worker["left"] else []
    notes += ["CRASH LOOP"] if worker["crash_loop"] else []
    notes += [f"{worker['failures']} failures in a row"] if worker["failures"] else []
    trouble = worker["trouble"] or (worker["last_failure"] if worker["failures"] else "")
    notes += [trouble[:TROUBLE]] if trouble else []
    busy = f"{worker['busy']}/{worker['slots']}"
    return worker["name"], worker["engine"] or "-", state, busy, _gpu(worker), ", ".join(notes)


def _gpu(worker: dict[str, Any]) -> str:
    seen = worker["gpu_state"]
    if worker["gpu"] is None:
        return "-"
    if not seen:
        return f"{worker['gpu']}"
    memory = f"{size(seen['memory_used'])} of {size(seen['memory_total'])}"
    return f"{worker['gpu']}: {seen['utilization']} %, {memory}, {seen['temperature']} C"


def _failure(failure: dict[str, Any]) -> Row:
    at = datetime.fromtimestamp(failure["at_ms"] / 1000, UTC).astimezone()
    ended = f"{failure['state']} {failure['status']}"
    return (
        at.strftime("%m-%d %H:%M:%S"), failure["kind"], ended, failure["type"] or "-", failure["worker"] or "-",
        failure["task_id"],
    )  # fmt: skip


def duration(seconds: float) -> str:
    """Return a duration as people say it: 0.4 s, 12 s, 3 min, 5 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def size(number: float) -> str:
    """Return a number of bytes with the unit that fits: 800 B, 12 kB, 3.4 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.1f} {unit}" if number < 10 and unit != "B" else f"{number:.0f} {unit}"
        number /= 1000
    raise AssertionError
