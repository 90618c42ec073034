"""How tasks are printed on a terminal and into a pipe."""

from __future__ import annotations

import json
import sys
from typing import TextIO

from graycat.cli.text import format_fields, format_time, say, say_over
from graycat.client import Progress, Task, TaskView
from graycat.redaction.terminal import one_line

#: Characters of a progress bar.
BAR_WIDTH = 30


def as_json(view: TaskView) -> str:
    """Return the server's JSON of a task, on one line."""
    return json.dumps(view.raw)


def format_row(view: TaskView) -> str:
    """Return a task as a line of a list."""
    submitted = format_time(view.submitted_ms)
    row = f"{view.id:<32}  {view.state:<9}  {view.kind:<14}  {view.priority:<11}  {submitted}"
    return one_line(row.rstrip())


def describe(view: TaskView, url: str) -> str:
    """Return the fields of a task that have a value, one a line, and its answer."""
    fields = {
        "id": view.id,
        "kind": view.kind,
        "state": view.state,
        "priority": view.priority,
        "queue": _describe_queue(view),
        "worker": view.worker,
        "engine": view.engine,
        "attempt": view.attempt,
        "retry of": view.retry_of,
        "submitted": format_time(view.submitted_ms),
        "started": format_time(view.started_ms),
        "finished": format_time(view.finished_ms),
    }
    if view.progress and not view.done:
        fields["progress"] = format_progress(view.progress)
    if view.metadata:
        fields["metadata"] = json.dumps(view.metadata)
    if view.problem:
        fields["error"] = f"{view.problem} ({view.problem.type})"

    lines = format_fields(fields)
    answer = image_urls(view, url)
    if not answer and view.state == "succeeded":
        answer = [format_answer(view)]
    if answer:
        lines += ["", *answer]
    return "\n".join(lines)


def _describe_queue(view: TaskView) -> str:
    if not view.queue_position:
        return view.queue
    estimate = ""
    if view.eta_s is not None:
        estimate = f", about {view.eta_s:g} s"
    elif view.eta_reason:
        estimate = f"; {view.eta_reason}"
    return f"{view.queue} (position {view.queue_position}{estimate})"


def format_answer(view: TaskView) -> str:
    """Return a task's answer: its text, else its JSON; '' if it has no answer."""
    if view.text or view.result is None:
        return view.text
    return json.dumps(view.result)


def image_urls(view: TaskView, url: str) -> list[str]:
    """Return the addresses of a task's images on the server ``url``."""
    return [f"{url}/tasks/{view.id}/images/{number}" for number in view.images]


def format_progress(progress: Progress) -> str:
    """Return the progress of a render in words."""
    parts = [f"{progress.fraction:4.0%}"]
    if progress.steps:
        parts.append(f"step {progress.step}/{progress.steps}")
    if progress.jobs > 1:
        parts.append(f"image {min(progress.job + 1, progress.jobs)}/{progress.jobs}")
    if progress.eta_s:
        parts.append(f"{progress.eta_s:.0f} s left")
    return ", ".join(parts)


def follow(task: Task, progress_to: TextIO | None = None) -> bool:
    """Print a task's text to stdout as it is generated, its progress to stderr; return whether there was any text."""
    meter = ProgressMeter(progress_to or sys.stderr)
    text_printed = False
    try:
        meter.show_queued(task.view)
        for event in task.events():
            if event.progress:
                meter.show(event.progress)
                continue
            meter.clear()
            if event.text:
                say(event.text, nl=False)
                text_printed = True
    finally:
        meter.clear()
        if text_printed:
            say()
    return text_printed


class ProgressMeter:
    """A progress bar on a terminal; elsewhere one line for each change."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._on_terminal = out.isatty()
        self._displayed = ""

    def show_queued(self, view: TaskView) -> None:
        """Show a queued task's position, on a terminal only."""
        if not self._on_terminal or view.state != "queued":
            return
        if view.queue_position:
            self._write(f"queued, position {view.queue_position}")
        else:
            self._write("queued")

    def show(self, progress: Progress) -> None:
        """Show the progress of a render."""
        text = format_progress(progress)
        if self._on_terminal:
            filled = round(progress.fraction * BAR_WIDTH)
            self._write(f"[{'#' * filled}{'-' * (BAR_WIDTH - filled)}] {text}")
        elif text != self._displayed:
            self._displayed = text
            say(text, file=self._out)

    def clear(self) -> None:
        """Remove the bar from a terminal."""
        if self._on_terminal and self._displayed:
            self._write("")

    def _write(self, text: str) -> None:
        self._displayed = text
        say_over(text, self._out)
