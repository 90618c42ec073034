"""``graycat logs``: what the engines on this machine have printed."""

from __future__ import annotations

import time
from pathlib import Path

import click

from graycat.engines.process.child import rotated
from graycat.settings import Settings

LOOK_EVERY_S = 0.2


@click.command()
@click.argument("engine", required=False)
@click.option("-n", "lines", default=50, show_default=True, help="How many of the last lines.")
@click.option("-f", "follow", is_flag=True, help="Go on with what comes.")
def logs(engine: str | None, lines: int, follow: bool) -> None:
    """Show the output of ENGINE: llm, sd, or the name of its log (llm-engine-gpu0); without it, list the logs."""
    folder = Settings.from_env().home / "log"
    found = sorted(folder.glob("*.log"))
    if engine is None:
        for path in found:
            click.echo(f"{path.stem}  {path.stat().st_size} bytes")
        return
    chosen = [path for path in found if path.stem == engine] or [p for p in found if p.stem.startswith(engine)]
    if not chosen:
        raise click.UsageError(f"no engine {engine!r} has printed anything in {folder}")
    followers = [Follower(path) for path in chosen]
    for follower in followers:
        for line in follower.last(lines):
            click.echo(line)
    while follow:
        time.sleep(LOOK_EVERY_S)
        click.echo(followers[0].news(), nl=False)


class Follower:
    """Reads an output: what it has, then what it gets, each line once, also while it is put aside and begins anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._aside = _identity(rotated(path))
        #: How much of the output has been read.
        self._place = path.stat().st_size

    def last(self, count: int) -> list[str]:
        """Return the last lines so far; just rotated, they are in the file that was put aside."""
        older = _read(rotated(self._path)) if self._aside else b""
        text = older + _read(self._path)[: self._place]
        return text.decode(errors="replace").splitlines()[-count:]

    def news(self) -> str:
        """Return what has come since the last time."""
        aside = _identity(rotated(self._path))
        ended = b""
        if aside != self._aside:
            self._aside = aside
            ended = _read(rotated(self._path), self._place)
            self._place = 0
        began = _read(self._path, self._place)
        self._place += len(began)
        return (ended + began).decode(errors="replace")


def _identity(path: Path) -> int:
    """Return what tells a file from the one that takes its place; 0 where there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _read(path: Path, place: int = 0) -> bytes:
    with path.open("rb") as file:
        file.seek(place)
        return file.read()
