"""How batches look on a terminal and in a script's pipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import click

from graycat.client import Batch

#: To the begin of the line, and clear it.
ANEW = "\r\x1b[K"
ORDER = ("done", "running", "queued", "waiting", "failed", "cancelled")


def counts(raw: Mapping[str, Any]) -> str:
    """Return the items of a batch by their states, those that are none left out."""
    progress = raw["progress"]
    told = [f"{progress[state]} {state}" for state in ORDER if progress.get(state) and state != "done"]
    return ", ".join([f"{progress.get('done', 0)}/{raw['total']} done", *told])


def row(raw: Mapping[str, Any]) -> str:
    """Return a batch as a line of a list."""
    share = f"{raw['progress'].get('done', 0)}/{raw['total']}"
    return f"{raw['id']:<16}  {raw['state']:<9}  {share:>11}  {time(raw['submitted_ms']):<20}  {raw['name']}".rstrip()


def described(raw: Mapping[str, Any]) -> str:
    """Return what is known of a batch, a line a field."""
    hours = f"{raw['window']} {raw['timezone']}" if raw.get("window") else ""
    fields = {
        "id": raw["id"],
        "name": raw["name"],
        "state": f"{raw['state']} ({raw['reason']})" if raw.get("reason") else raw["state"],
        "items": counts(raw),
        "left": length(raw["eta_s"]) if raw.get("eta_s") is not None else "",
        "GPU time": length(raw["gpu_s"]) if raw.get("gpu_s") else "",
        "key": raw.get("key"),
        "schedule": raw.get("schedule"),
        "window": hours,
        "folder": f"{raw['store']}: {raw['folder']}" if raw.get("store") else raw.get("folder"),
        "submitted": time(raw.get("submitted_ms")),
        "started": time(raw.get("started_ms")),
        "finished": time(raw.get("finished_ms")),
    }
    return "\n".join(f"{name + ':':<11}{value}" for name, value in fields.items() if value)


def item(raw: Mapping[str, Any]) -> str:
    """Return an item as a line of a list."""
    error = raw.get("error") or {}
    told = raw.get("file") or ": ".join(filter(None, (error.get("type"), error.get("message"))))
    return f"{raw['number']:>6}  {raw['state']:<9}  {raw['attempts']:>2}  {raw['seed']:>10}  {told}".rstrip()


def forecast(raw: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that tell what a batch would make."""
    yield f"{raw['total']} images"
    if raw.get("prompts"):
        yield f"{raw['prompts']} prompts would be written first"
    if raw["gpu_s"] is None:
        yield "GPU time: unknown until this server has made an image for a batch"
    else:
        engines = f"; {length(raw['eta_s'])} with the {raw['engines']} engines there now" if raw["eta_s"] else ""
        yield f"GPU time: about {length(raw['gpu_s'])}{engines}"
    for one in raw["items"]:
        yield f"{one['number']:>6}  {one['file']}"
    if raw["total"] > len(raw["items"]):
        yield f"   ...  {raw['total'] - len(raw['items'])} more"


class Follower:
    """A line that changes on a terminal; elsewhere a line for each change of state."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._live = out.isatty()
        self._state = ("", "")

    def show(self, batch: Batch) -> None:
        """Show where a batch stands."""
        raw = batch.raw
        left = f", {length(raw['eta_s'])} left" if raw.get("eta_s") is not None else ""
        why = f" ({raw['reason']})" if raw.get("reason") else ""
        text = f"{raw['state']}{why}: {counts(raw)}{left}"
        if self._live:
            click.echo(ANEW + text, file=self._out, nl=False)
        elif (raw["state"], raw["reason"]) != self._state:
            click.echo(text, file=self._out)
        self._state = (raw["state"], raw["reason"])

    def clear(self) -> None:
        """Take the line off a terminal."""
        if self._live:
            click.echo(ANEW, file=self._out, nl=False)


def length(seconds: float) -> str:
    """Return a length of time in words."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def time(at_ms: int | None) -> str:
    """Return a time; '' for none."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at_ms else ""
