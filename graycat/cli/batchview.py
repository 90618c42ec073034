"""How batches are printed on a terminal and into a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from graycat.cli.text import format_fields, format_time, say, say_over
from graycat.client import Batch
from graycat.redaction.terminal import one_line

#: States of items in the order in which they are printed, after those that are done.
UNFINISHED_STATES = ("running", "queued", "waiting", "failed", "cancelled")

#: Characters of what an item is, in a list.
MAX_LABEL_CHARS = 48


def format_counts(raw: Mapping[str, Any]) -> str:
    """Return the numbers of a batch's items in each state; states without items are left out."""
    progress = raw["progress"]
    parts = [f"{_done_of_total(raw)} done"]
    for state in UNFINISHED_STATES:
        if progress.get(state):
            parts.append(f"{progress[state]} {state}")
    return ", ".join(parts)


def _done_of_total(raw: Mapping[str, Any]) -> str:
    return f"{raw['progress'].get('done', 0)}/{raw['total']}"


def format_row(raw: Mapping[str, Any]) -> str:
    """Return a batch as a line of a list."""
    submitted = format_time(raw["submitted_ms"])
    row = f"{raw['id']:<16}  {raw['state']:<9}  {_done_of_total(raw):>11}  {submitted:<20}  {raw['name']}"
    return one_line(row.rstrip())


def describe(raw: Mapping[str, Any]) -> str:
    """Return the fields of a batch that have a value, one a line."""
    fields = {"id": raw["id"], "name": raw["name"], "state": _state_with_reason(raw), "items": format_counts(raw)}
    if raw.get("eta_s") is not None:
        fields["left"] = format_duration(raw["eta_s"])
    elif raw.get("eta_reason"):
        fields["left"] = f"unknown: {raw['eta_reason']}"
    if raw.get("gpu_s"):
        fields["GPU time"] = format_duration(raw["gpu_s"])
    fields["key"] = raw.get("key")
    fields["schedule"] = raw.get("schedule")
    if raw.get("window"):
        fields["window"] = f"{raw['window']} {raw['timezone']}"
    fields["folder"] = raw.get("folder")
    if raw.get("store"):
        fields["folder"] = f"{raw['store']}: {raw['folder']}"
    for name in ("submitted", "started", "finished"):
        fields[name] = format_time(raw.get(f"{name}_ms"))
    return "\n".join(format_fields(fields))


def _state_with_reason(raw: Mapping[str, Any]) -> str:
    if raw.get("reason"):
        return f"{raw['state']} ({raw['reason']})"
    return str(raw["state"])


def format_item(raw: Mapping[str, Any]) -> str:
    """Return an item as a line of a list: what it is among the others, and its file or its error."""
    outcome = raw.get("file")
    if not outcome:
        error = raw.get("error") or {}
        outcome = ": ".join(filter(None, (error.get("type"), error.get("message"))))
    # A server of an earlier release has no labels.
    label = raw.get("label") or raw.get("prompt", "")
    if len(label) > MAX_LABEL_CHARS:
        label = label[: MAX_LABEL_CHARS - 1] + "…"
    row = f"{raw['number']:>6}  {raw['state']:<9}  {raw['attempts']:>2}  {raw['seed']:>10}"
    row += f"  {label:<{MAX_LABEL_CHARS}}  {outcome}"
    return one_line(row.rstrip())


def format_forecast(raw: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that say what a batch would make."""
    yield f"{raw['total']} images"
    if raw.get("prompts"):
        yield f"{raw['prompts']} prompts would be written first"
    yield _format_gpu_time(raw)
    for warning in raw.get("warnings", ()):
        yield f"warning: {warning}"
    for item in raw["items"]:
        yield f"{item['number']:>6}  {item['file']}"
    if raw["total"] > len(raw["items"]):
        yield f"   ...  {raw['total'] - len(raw['items'])} more"


def _format_gpu_time(raw: Mapping[str, Any]) -> str:
    if raw["gpu_s"] is None:
        return "GPU time: unknown until this server has made an image for a batch"
    text = f"GPU time: about {format_duration(raw['gpu_s'])}"
    if raw["eta_s"]:
        text += f"; {format_duration(raw['eta_s'])} with the {raw['engines']} engines that run now"
    return text


class ProgressMeter:
    """A batch's progress: one line that changes on a terminal; elsewhere a line for each change of state."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._on_terminal = out.isatty()
        self._state = ("", "")

    def show(self, batch: Batch) -> None:
        """Show the state and progress of a batch."""
        raw = batch.raw
        text = f"{_state_with_reason(raw)}: {format_counts(raw)}"
        if raw.get("eta_s") is not None:
            text += f", {format_duration(raw['eta_s'])} left"
        state = (raw["state"], raw["reason"])
        if self._on_terminal:
            say_over(text, self._out)
        elif state != self._state:
            say(text, file=self._out)
        self._state = state

    def clear(self) -> None:
        """Remove the line from a terminal."""
        if self._on_terminal:
            say_over("", self._out)


def format_duration(seconds: float) -> str:
    """Return a duration with its two largest units: 3.1 s, 59 s, 1 min 1 s, 1 h 1 min."""
    whole = round(seconds)
    if whole < 60 and seconds < 10:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
