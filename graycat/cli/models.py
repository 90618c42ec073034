"""``graycat models``: the checkpoints of this copy."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import click

from graycat import log
from graycat.engines.models import checkpoints, downloads, inventory
from graycat.engines.models.checkpoints import IMAGE, TEXT
from graycat.engines.models.errors import DownloadFailed
from graycat.settings import Settings

#: Seconds between two lines of progress where there is no terminal.
TELL_EVERY_S = 5.0
#: Characters of a hash that tell one file from another.
SHORT_HASH = 12
#: What each option of ``pull`` fills: its kind of engine and the setting whose folder it is.
FOLDERS = {
    "text": (TEXT, "model_url"),
    "image": (IMAGE, "sd_model_url"),
    "lora": (IMAGE, "lora_url"),
    "vae": (IMAGE, "vae_url"),
}


@click.group()
def models() -> None:
    """Download, list, verify and remove checkpoints."""


@models.command()
@click.option("--text", "into", flag_value="text", help="For the text engine; the default with a URL.")
@click.option("--image", "into", flag_value="image", help="For the image engine.")
@click.option("--lora", "into", flag_value="lora", help="URLs of LoRAs.")
@click.option("--vae", "into", flag_value="vae", help="URLs of VAEs.")
@click.argument("urls", metavar="[URL]...", nargs=-1)
def pull(into: str | None, urls: tuple[str, ...]) -> None:
    """Download checkpoints: those that the settings name, or those at the URLs."""
    settings, stop, failed = Settings.from_env(), threading.Event(), False
    log.setup(settings)
    if urls:
        kind, setting = FOLDERS[into or "text"]
        folder = settings.home / checkpoints.FOLDERS[kind][setting]
        required = [
            checkpoints.RequiredCheckpoint("URL", folder, checkpoints.source_from_setting(settings, "URL", url))
            for url in urls
        ]
    else:
        kinds = (TEXT, IMAGE) if into is None else (FOLDERS[into][0],)
        required = [checkpoint for kind in kinds for checkpoint in checkpoints.list_required(settings, kind)]
    for checkpoint in required:
        if checkpoint.source is None:
            click.echo(f"models: {checkpoint.file} is a file of this machine")
            continue
        try:
            with Progress() as progress:
                path = downloads.fetch(checkpoint.source, checkpoint.folder, settings, progress, stop)
        except DownloadFailed as error:
            click.echo(f"models: {checkpoint.source.display_url}: {error}", err=True)
            failed = True
        else:
            click.echo(f"models: {path} is here")
    sys.exit(1 if failed else 0)


@models.command("list")
def list_() -> None:
    """List the checkpoints: name, size, hash, source and the settings that use them."""
    rows = [("NAME", "SIZE", "SHA256", "SOURCE", "USED BY")]
    for item in inventory.list_stored(Settings.from_env()):
        digest = item.record.sha256[:SHORT_HASH] if item.record is not None else "-"
        source = item.record.source if item.record is not None else "unfinished" if item.partial else "-"
        rows.append((item.name, size_of(item.path), digest, source, ", ".join(item.used_by) or "-"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@models.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Read the checkpoints again and compare their hashes; all, or those that are named."""
    settings, damaged = Settings.from_env(), 0
    chosen = [inventory.find_by_name(settings, name) for name in names] or list(inventory.list_stored(settings))
    for item in chosen:
        if not item.partial:
            intact = inventory.is_intact(item)
            damaged += intact is False
            click.echo(f"{item.name}  {'unknown' if intact is None else 'intact' if intact else 'DAMAGED'}")
    sys.exit(1 if damaged else 0)


@models.command()
@click.argument("name")
def remove(name: str) -> None:
    """Delete a checkpoint."""
    item = inventory.find_by_name(Settings.from_env(), name)
    inventory.remove(item)
    click.echo(f"models: {item.name} is gone")
    if item.used_by:
        click.echo(f"models: {' and '.join(item.used_by)} will have it downloaded again", err=True)


def size_of(path: Path) -> str:
    """Return a file's size as people write it."""
    size = path.stat().st_size
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


class Progress:
    """How far a download is: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told_at = clock()
        self._bar = click.progressbar(length=1000, file=sys.stderr) if sys.stderr.isatty() else None

    def __enter__(self) -> Progress:
        return self

    def __call__(self, name: str, percent: float) -> None:
        """Tell how far a file is."""
        if self._bar is not None:
            self._bar.label = name
            self._bar.update(round(10 * percent) - self._bar.pos)
        elif self._clock() - self._told_at >= TELL_EVERY_S:
            self._told_at = self._clock()
            click.echo(f"models: {name} {percent:.0f} %", err=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None and self._bar.pos:
            self._bar.render_finish()
