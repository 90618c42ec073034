"""How ``graycat status`` is printed on a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from graycat.cli.text import Row, format_table
from graycat.redaction.terminal import one_line

#: Characters of a worker's error that are shown.
MAX_ERROR_CHARS = 160
#: A broker takes no new task above this share of its memory (``queue/lua/stored.lua``).
FULL_SHARE = 0.85
QUEUE_COLUMNS = ("QUEUE", "WAITING", "OLDEST", "WORKERS", "")
WORKER_COLUMNS = ("WORKER", "ENGINE", "STATE", "BUSY", "GPU", "")
PROCESS_COLUMNS = ("NOT RUNNING", "MACHINE", "STATE", "RESTARTS", "LAST END", "NEXT TRY")
QUARANTINE_COLUMNS = ("SET ASIDE", "FROM", "REASON", "BYTES")
ERROR_COLUMNS = ("LAST ERRORS", "KIND", "ENDED", "TYPE", "WORKER", "TASK")


def format_screen(status: dict[str, Any], url: str) -> str:
    """Return a server's status as paragraphs: the verdict, and tables of queues, workers and errors."""
    verdict = f"NOT SERVED: {status['reason']}"
    if status["served"]:
        verdict = "games are served"
    paragraphs = [one_line(f"{url}: {verdict}")]
    if status.get("broker"):
        paragraphs.append(format_table(QUEUE_COLUMNS, map(_queue_row, status["queues"])))
        paragraphs.append(format_table(WORKER_COLUMNS, _worker_rows(status)))
        paragraphs.append(_broker_line(status))
        paragraphs += _notes(status)
    stopped = [process for process in status.get("processes", []) if process["state"] not in ("running", "stopped")]
    if stopped:
        paragraphs.append(format_table(PROCESS_COLUMNS, map(_process_row, stopped)))
    if status.get("quarantine"):
        paragraphs.append(format_table(QUARANTINE_COLUMNS, map(_quarantine_row, status["quarantine"])))
    if status["failures"]:
        paragraphs.append(format_table(ERROR_COLUMNS, map(_failure_row, status["failures"])))
    return "\n\n".join(paragraphs)


def _notes(status: dict[str, Any]) -> list[str]:
    """Return a paragraph for each thing that is not always there: no beat, unreadable keys, aliases, batches."""
    notes = []
    if status.get("schedules") and not status.get("beat"):
        notes.append(f"NO BEAT: {status['schedules']} schedules do not fire; start graycat beat")
    if status.get("unreadable"):
        notes.append(f"NOT READABLE in the broker, and left out: {one_line(', '.join(status['unreadable']))}")
    notes += map(one_line, status.get("notes", []))
    batches = _batches_line(status["batches"])
    if batches:
        notes.append(batches)
    return notes


def _broker_line(status: dict[str, Any]) -> str:
    held = status["held"]
    contents = f"events {format_size(held['events'])}, images {format_size(held['artifacts'])}"
    if "stored" in held:
        contents += f", inputs of tasks {format_size(held['stored'])}"
    line = f"the broker holds {contents}; webhook deliveries that wait: {status['deliveries']}"
    if "used" in held:
        line += f"\nits memory: {_format_memory(held)}"
    return line


def _format_memory(held: dict[str, Any]) -> str:
    """Return how much memory the broker takes, and of how much."""
    used = format_size(held["used"])
    if not held["most"]:
        return f"{used}, without a limit"
    text = f"{used} of {format_size(held['most'])}"
    if held["used"] >= FULL_SHARE * held["most"]:
        text += ", FULL: no new task is accepted"
    return text


def _batches_line(batches: dict[str, Any]) -> str:
    """Return a line about the image batches that have not ended; '' if there are none."""
    counts = []
    for state in ("running", "queued", "paused"):
        if batches["states"][state]:
            counts.append(f"{batches['states'][state]} {state}")
    if not counts:
        return ""
    items = batches["items"]
    line = f"batches: {', '.join(counts)}; {items['done']} of {sum(items.values())} images made"
    if batches["late"]:
        line += f"; LATE: {batches['late']}"
    return line


def _queue_row(queue: dict[str, Any]) -> Row:
    oldest = "-"
    if queue["depth"]:
        oldest = format_age(queue["oldest_s"])
    notes = []
    if queue["paused"]:
        notes.append("paused")
    if queue["depth"] and not queue["consumers"]:
        notes.append("no worker takes from it")
    return queue["name"], str(queue["depth"]), oldest, str(queue["consumers"]), ", ".join(notes)


def _worker_rows(status: dict[str, Any]) -> list[Row]:
    rows = list(map(_worker_row, status["workers"]))
    for name in status["missed"]:
        rows.append((name, "", "silent", "", "", ""))
    return rows


def _worker_row(worker: dict[str, Any]) -> Row:
    engine, state = "-", "-"
    if worker["engine"]:
        engine, state = worker["engine"], worker["engine_state"]
    busy = f"{worker['busy']}/{worker['slots']}"
    return worker["name"], engine, state, busy, _format_gpu(worker), ", ".join(_worker_notes(worker))


def _worker_notes(worker: dict[str, Any]) -> list[str]:
    notes = []
    if worker["paused"]:
        notes.append("paused")
    elif not worker["consuming"]:
        notes.append("takes no tasks")
    if worker["left"]:
        notes.append(f"has left {', '.join(worker['left'])}")
    if worker.get("stuck"):
        notes.append(f"STUCK: {', '.join(worker['stuck'])}")
    if worker["crash_loop"]:
        notes.append("CRASH LOOP")
    error = worker["trouble"].removeprefix("crash loop: ")
    if worker["failures"]:
        notes.append(f"{worker['failures']} failures in a row")
        error = error or worker["last_failure"]
    if error:
        notes.append(error[:MAX_ERROR_CHARS])
    return notes


def _format_gpu(worker: dict[str, Any]) -> str:
    if worker["gpu"] is None:
        return "-"
    state = worker["gpu_state"]
    if not state:
        return str(worker["gpu"])
    memory = f"{format_size(state['memory_used'])} of {format_size(state['memory_total'])}"
    return f"{worker['gpu']}: {state['utilization']} %, {memory}, {state['temperature']} C"


def _process_row(process: dict[str, Any]) -> Row:
    next_try = "-"
    if process["retry_in_s"]:
        next_try = f"in {format_age(process['retry_in_s'])}"
    restarts = str(process["restarts"])
    return process["name"], process["machine"], process["state"].upper(), restarts, process["last_end"], next_try


def _quarantine_row(item: dict[str, Any]) -> Row:
    at = datetime.fromtimestamp(item["at_ms"] / 1000, UTC).astimezone()
    return at.strftime("%m-%d %H:%M:%S"), item["where"], item["reason"], str(item["size"])


def _failure_row(failure: dict[str, Any]) -> Row:
    ended_at = datetime.fromtimestamp(failure["at_ms"] / 1000, UTC).astimezone()
    return (
        ended_at.strftime("%m-%d %H:%M:%S"),
        failure["kind"],
        f"{failure['state']} {failure['status']}",
        failure["type"] or "-",
        failure["worker"] or "-",
        failure["task_id"],
    )


def format_age(seconds: float) -> str:
    """Return a duration with one unit: 0.4 s, 12 s, 3 min, 5 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"


def format_size(number: float) -> str:
    """Return a number of bytes with the unit that fits: 800 B, 1.2 kB, 45 MB, 34 GB."""
    if number < 1000:
        return f"{number:.0f} B"
    unit = "B"
    for larger in ("kB", "MB", "GB"):
        if number >= 1000:
            number /= 1000
            unit = larger
    if number < 10:
        return f"{number:.1f} {unit}"
    return f"{number:.0f} {unit}"
