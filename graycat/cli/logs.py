"""``graycat logs``: what the engines on this machine have printed."""

from __future__ import annotations

import time
from pathlib import Path

import click

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
    for path in chosen:
        _show(path, lines)
    if follow:
        _follow(chosen[0])


def _show(path: Path, lines: int) -> None:
    with path.open(errors="replace") as file:
        for line in file.read().splitlines()[-lines:]:
            click.echo(line)


def _follow(path: Path) -> None:
    place = path.stat().st_size
    while True:
        size = path.stat().st_size
        # It was put aside: what comes now is in a file that begins anew.
        place = 0 if size < place else place
        if size > place:
            with path.open(errors="replace") as file:
                file.seek(place)
                click.echo(file.read(), nl=False)
                place = file.tell()
        time.sleep(LOOK_EVERY_S)
