"""How tasks look on a terminal and in a script's pipe."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TextIO

import click

from graycat.client import Progress, Task, TaskView

#: Characters of a progress bar.
BAR = 30
#: To the begin of the line, and clear it.
ANEW = "\r\x1b[K"


def as_json(view: TaskView) -> str:
    """Return all that the server tells of a task, on one line."""
    return json.dumps(view.raw)


def row(view: TaskView) -> str:
    """Return a task as a line of a list."""
    return f"{view.id:<32}  {view.state:<9}  {view.kind:<14}  {view.priority:<11}  {_time(view.submitted_ms)}".rstrip()


def described(view: TaskView, url: str) -> str:
    """Return what is known of a task, a line a field, and its answer."""
    waiting = f"place {view.queue_position}" + (f", about {view.eta_s:g} s" if view.eta_s is not None else "")
    problem = f"{view.problem} ({view.problem.type})" if view.problem else ""
    fields = {
        "id": view.id,
        "kind": view.kind,
        "state": view.state,
        "priority": view.priority,
        "queue": f"{view.queue} ({waiting})" if view.queue_position else view.queue,
        "worker": view.worker,
        "engine": view.engine,
        "attempt": view.attempt,
        "retry of": view.retry_of,
        "submitted": _time(view.submitted_ms),
        "started": _time(view.started_ms),
        "finished": _time(view.finished_ms),
        "progress": progress(view.progress) if view.progress and not view.done else "",
        "metadata": json.dumps(view.metadata) if view.metadata else "",
        "error": problem,
    }
    lines = [f"{name + ':':<11}{value}" for name, value in fields.items() if value]
    told = image_addresses(view, url) or ([answer(view)] if view.state == "succeeded" else [])
    return "\n".join([*lines, *(["", *told] if told else [])])


def answer(view: TaskView) -> str:
    """Return what a task has answered: its text, or its JSON; nothing where it has no answer."""
    if view.text or view.result is None:
        return view.text
    return json.dumps(view.result)


def image_addresses(view: TaskView, url: str) -> list[str]:
    """Return where the images of a task are."""
    return [f"{url}/tasks/{view.id}/images/{number}" for number in view.images]


def progress(seen: Progress) -> str:
    """Return how far a render is, in words."""
    parts = [f"{seen.fraction:4.0%}"]
    if seen.steps:
        parts.append(f"step {seen.step}/{seen.steps}")
    if seen.jobs > 1:
        parts.append(f"image {min(seen.job + 1, seen.jobs)}/{seen.jobs}")
    if seen.eta_s:
        parts.append(f"{seen.eta_s:.0f} s left")
    return ", ".join(parts)


def follow(task: Task, progress_to: TextIO | None = None) -> bool:
    """Print a task's text to stdout as it comes, its progress to stderr; tell whether there was any text."""
    meter = Meter(progress_to or sys.stderr)
    told = False
    try:
        meter.waiting(task.view)
        for event in task.events():
            if event.progress:
                meter.show(event.progress)
                continue
            meter.clear()
            if event.text:
                click.echo(event.text, nl=False)
                told = True
    finally:
        meter.clear()
        if told:
            click.echo()
    return told


class Meter:
    """A progress bar on a terminal, a line for each step of the way elsewhere."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._live = out.isatty()
        self._shown = ""

    def waiting(self, view: TaskView) -> None:
        """Show where a task waits, on a terminal."""
        if self._live and view.state == "queued":
            self._write(f"queued, place {view.queue_position}" if view.queue_position else "queued")

    def show(self, seen: Progress) -> None:
        """Show how far a render is."""
        words = progress(seen)
        if self._live:
            full = round(seen.fraction * BAR)
            self._write(f"[{'#' * full}{'-' * (BAR - full)}] {words}")
        elif words != self._shown:
            self._shown = words
            click.echo(words, file=self._out)

    def clear(self) -> None:
        """Take what is shown off a terminal."""
        if self._live and self._shown:
            self._write("")

    def _write(self, text: str) -> None:
        self._shown = text
        click.echo(ANEW + text, file=self._out, nl=False)


def _time(at_ms: int | None) -> str:
    if at_ms is None:
        return ""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
