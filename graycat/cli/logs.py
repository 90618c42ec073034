"""``graycat logs``: what the engines on this machine have printed."""

from __future__ import annotations

import time
from pathlib import Path

import click

from graycat.cli.text import say
from graycat.engines.process.child import rotated_path
from graycat.settings import Settings

#: Seconds between two reads of a log that is followed.
POLL_INTERVAL_S = 0.2


@click.command()
@click.argument("engine", required=False)
@click.option("-n", "lines", default=50, show_default=True, help="How many of the last lines.")
@click.option("-f", "follow", is_flag=True, help="Go on printing what the engine prints.")
def logs(engine: str | None, lines: int, follow: bool) -> None:
    """Show what an engine has printed.

    ENGINE is llm, sd, or the name of a log (llm-engine-gpu0). Without it: list the logs.
    """
    folder = Settings.from_env().home / "log"
    paths = sorted(folder.glob("*.log"))
    if engine is None:
        for path in paths:
            say(f"{path.stem}  {path.stat().st_size} bytes")
        return

    chosen = find_logs(paths, engine)
    if not chosen:
        raise click.UsageError(f"no engine {engine!r} has printed anything in {folder}")
    readers = [LogReader(path) for path in chosen]
    for reader in readers:
        for line in reader.read_last(lines):
            say(line)
    while follow:
        time.sleep(POLL_INTERVAL_S)
        say(readers[0].read_new(), nl=False)


def find_logs(paths: list[Path], name: str) -> list[Path]:
    """Return the log of this name, else those whose names begin so."""
    for path in paths:
        if path.stem == name:
            return [path]
    return [path for path in paths if path.stem.startswith(name)]


class LogReader:
    """Reads an engine's log as it grows, each line once, also while the log is rotated."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rotated_inode = _inode(rotated_path(path))
        #: Bytes of the log that have been read.
        self._offset = path.stat().st_size

    def read_last(self, count: int) -> list[str]:
        """Return the last lines so far. If the log has just been rotated, some of them are in the rotated file."""
        older = b""
        if self._rotated_inode:
            older = _read(rotated_path(self._path))
        text = older + _read(self._path)[: self._offset]
        return text.decode(errors="replace").splitlines()[-count:]

    def read_new(self) -> str:
        """Return what has been printed since the last read."""
        before_rotation = b""
        inode = _inode(rotated_path(self._path))
        if inode != self._rotated_inode:
            self._rotated_inode = inode
            before_rotation = _read(rotated_path(self._path), self._offset)
            self._offset = 0
        new = _read(self._path, self._offset)
        self._offset += len(new)
        return (before_rotation + new).decode(errors="replace")


def _inode(path: Path) -> int:
    """Return a file's inode, which differs from that of the file that replaces it; 0 if there is no file."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _read(path: Path, offset: int = 0) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read()
