"""``graycat backup``: writes what the broker holds of graycat, and the keys of this home, to a file."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from graycat import __version__
from graycat.auth.signing import key_file
from graycat.backup import contents, home_files
from graycat.backup.archive import BackupWriter, new_backup
from graycat.backup.errors import BackupError
from graycat.backup.snapshot import Snapshot
from graycat.cli import signals
from graycat.cli.running_broker import running_broker
from graycat.cli.text import say, say_over
from graycat.redaction.terminal import one_line
from graycat.settings import Settings

MIB = 1024 * 1024
#: Seconds between two lines of progress.
LINE_INTERVAL_S = 0.2


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@click.option("--files", is_flag=True, help="Also the files of batches in GRAYCAT_HOME.")
@click.option("--without-keys", is_flag=True,
              help="Leave out token-key, webhook-key and api-token of GRAYCAT_HOME.")  # fmt: skip
def backup(file: Path, overwrite: bool, files: bool, without_keys: bool) -> None:
    """Write everything that the broker holds to FILE.

    Tokens, schedules, batches, tasks and usage, as they are at one moment. graycat may run meanwhile. FILE holds
    secrets and prompts: only its owner can read it. Exit code 1: no backup was
    made, and no FILE is left.
    """
    settings = Settings.from_env()
    with errors_as_messages(), running_broker(settings), new_backup(file, overwrite=overwrite) as writer:
        manifest = _write(settings, writer, files=files, without_keys=without_keys)
    held = contents.describe(manifest["counts"]) or "nothing"
    say(f"{file}: {held}; {file.stat().st_size / MIB:.1f} MiB")
    if not settings.token_key and not key_file(settings).is_file() and manifest["counts"][contents.TOKENS]:
        say(f"graycat: {settings.home} has no token-key: API tokens work again only where the key of the web servers "
            "is, too", err=True)  # fmt: skip


def _write(settings: Settings, writer: BackupWriter, *, files: bool, without_keys: bool) -> dict[str, Any]:
    """Write all parts of a backup; return its manifest."""
    with progress_line() as line, writer.rows() as write:
        snapshot = Snapshot(settings, write, line.show_bytes)
        snapshot.take()
    kept = {}
    if not without_keys:
        kept = home_files.list_keys(settings.home)
    for name, path in kept.items():
        writer.add(name, path)
    if files:
        for name, path in home_files.list_batches(settings.home):
            writer.add(name, path)
    manifest = {
        "id": secrets.token_hex(8),
        "graycat": __version__,
        "broker": snapshot.broker,
        "taken_at": datetime.fromtimestamp(snapshot.taken_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "counts": snapshot.counts(),
        "keys": snapshot.keys,
        "memory_bytes": snapshot.memory_bytes,
        "token_key": token_key_fingerprint(settings),
    }
    writer.finish(manifest)
    return manifest


def token_key_fingerprint(settings: Settings) -> str:
    """Return the fingerprint of the key that tokens are sealed with here; '' if there is none."""
    secret = settings.token_key
    if not secret and key_file(settings).is_file():
        secret = key_file(settings).read_text().strip()
    if not secret:
        return ""
    return home_files.fingerprint(secret)


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """Print what goes wrong as one line, without a traceback; the exit code is 1. What was begun is cleaned up.

    So it is after SIGTERM and SIGHUP, as after Ctrl-C.
    """
    try:
        with signals.raised():
            yield
    except BackupError as error:
        # A part of it may be what a file says.
        raise click.ClickException(one_line(str(error))) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename or ''} {error.strerror}".strip()) from None


class ProgressLine:
    """One line on a terminal that tells how far a command is; elsewhere nothing is shown."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._next_at = 0.0

    def show(self, text: str) -> None:
        """Show a text in place of the one before, a few times a second at most."""
        now = time.monotonic()
        if self._is_shown and now >= self._next_at:
            self._next_at = now + LINE_INTERVAL_S
            say_over(text, sys.stderr)

    def show_bytes(self, keys: int, size: int) -> None:
        """Show how many keys, and bytes of the broker's memory, have been read."""
        self.show(f"{keys:,} keys, {size / MIB:.0f} MiB")

    def show_part(self, done: int, total: int) -> None:
        """Show how many of how many commands have been run."""
        self.show(f"{done:,} of {total:,} commands")

    def end(self) -> None:
        """Clear the line."""
        if self._is_shown:
            say_over("", sys.stderr)


@contextmanager
def progress_line() -> Iterator[ProgressLine]:
    """Yield a line of progress, which is cleared at the end of the block."""
    line = ProgressLine()
    try:
        yield line
    finally:
        line.end()
