"""``graycat models``: the checkpoints of this installation."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import click

from graycat import log
from graycat.cli.text import format_table, say
from graycat.engines.models import checkpoints, downloads, inventory
from graycat.engines.models.checkpoints import IMAGE, TEXT, RequiredCheckpoint
from graycat.engines.models.errors import DownloadFailed
from graycat.settings import Settings

#: Seconds between two lines of progress if stderr is no terminal.
PROGRESS_INTERVAL_S = 5.0
#: Characters of a hash that are listed: enough to tell two files apart.
SHORT_HASH_CHARS = 12
COLUMNS = ("NAME", "SIZE", "SHA256", "SOURCE", "USED BY")
#: What each option of ``pull`` downloads: its kind of engine, and the setting whose folder is used.
TARGETS = {
    "text": (TEXT, "model_url"),
    "image": (IMAGE, "sd_model_url"),
    "lora": (IMAGE, "lora_url"),
    "vae": (IMAGE, "vae_url"),
}


@click.group()
def models() -> None:
    """Download, list, check and remove models (checkpoints)."""


@models.command()
@click.option("--text", "target", flag_value="text", help="For the text engine; this is the default for URLs.")
@click.option("--image", "target", flag_value="image", help="For the image engine.")
@click.option("--lora", "target", flag_value="lora", help="LoRAs for the image engine.")
@click.option("--vae", "target", flag_value="vae", help="VAEs for the image engine.")
@click.argument("urls", metavar="[URL]...", nargs=-1)
def pull(target: str | None, urls: tuple[str, ...]) -> None:
    """Download models.

    Without a URL: those that the settings name. With URLs (https://... or hf://OWNER/REPO/FILE): those.
    """
    settings = Settings.from_env()
    log.setup(settings)
    if urls:
        required = _required_by_urls(settings, target or "text", urls)
    else:
        required = _required_by_settings(settings, target)

    failed = False
    stop = threading.Event()
    for checkpoint in required:
        if checkpoint.source is None:
            say(f"models: {checkpoint.file} is a file of this machine")
            continue
        try:
            with ProgressDisplay() as progress:
                path = downloads.fetch(checkpoint.source, checkpoint.folder, settings, progress, stop)
        except DownloadFailed as error:
            say(f"models: {checkpoint.source.display_url}: {error}", err=True)
            failed = True
        else:
            say(f"models: {path} is here")
    if failed:
        sys.exit(1)


def _required_by_urls(settings: Settings, target: str, urls: tuple[str, ...]) -> list[RequiredCheckpoint]:
    """Return the checkpoints at some URLs, in the folder of an option of ``pull``. Raises SettingsError."""
    kind, setting = TARGETS[target]
    folder = settings.home / checkpoints.FOLDERS[kind][setting]
    return [RequiredCheckpoint("URL", folder, checkpoints.source_from_setting(settings, "URL", url)) for url in urls]


def _required_by_settings(settings: Settings, target: str | None) -> list[RequiredCheckpoint]:
    """Return the checkpoints that the settings name: for all engines, or for an option's. Raises SettingsError."""
    if target is not None:
        kind, _ = TARGETS[target]
        return checkpoints.list_required(settings, kind)
    return [*checkpoints.list_required(settings, TEXT), *checkpoints.list_required(settings, IMAGE)]


@models.command("list")
def list_models() -> None:
    """List the models that are here.

    Each with its size, its hash, where it comes from, and the settings that use it.
    """
    rows = []
    for item in inventory.list_stored(Settings.from_env()):
        digest, source = "-", "-"
        if item.record is not None:
            digest = item.record.sha256[:SHORT_HASH_CHARS]
            source = item.record.source
        elif item.partial:
            source = "unfinished"
        rows.append((item.name, format_file_size(item.path), digest, source, ", ".join(item.used_by) or "-"))
    say(format_table(COLUMNS, rows))


@models.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Check that models are whole.

    Reads all files, or those with the NAMEs, and compares each hash with that of its download.
    """
    settings = Settings.from_env()
    chosen = [inventory.find_by_name(settings, name) for name in names]
    if not names:
        chosen = list(inventory.list_stored(settings))

    damaged = False
    for item in chosen:
        if item.partial:
            continue
        intact = inventory.is_intact(item)
        if intact is None:
            verdict = "unknown"
        elif intact:
            verdict = "intact"
        else:
            verdict = "DAMAGED"
            damaged = True
        say(f"{item.name}  {verdict}")
    if damaged:
        sys.exit(1)


@models.command()
@click.argument("name")
def remove(name: str) -> None:
    """Delete a checkpoint."""
    item = inventory.find_by_name(Settings.from_env(), name)
    inventory.remove(item)
    say(f"models: {item.name} is removed")
    if item.used_by:
        say(f"models: {' and '.join(item.used_by)} still names it, so it will be downloaded again", err=True)


def format_file_size(path: Path) -> str:
    """Return a file's size in MB or GB."""
    size = path.stat().st_size
    if size >= 1e9:
        return f"{size / 1e9:.2f} GB"
    return f"{size / 1e6:.1f} MB"


class ProgressDisplay:
    """Shows the progress of a download: a bar on a terminal, elsewhere a line every few seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._printed_at = clock()
        #: None if stderr is no terminal.
        self._bar = None
        if sys.stderr.isatty():
            self._bar = click.progressbar(length=1000, file=sys.stderr)

    def __enter__(self) -> ProgressDisplay:
        return self

    def __call__(self, name: str, percent: float) -> None:
        """Show the progress of a file, in percent."""
        if self._bar is not None:
            self._bar.label = name
            self._bar.update(round(10 * percent) - self._bar.pos)
        elif self._clock() - self._printed_at >= PROGRESS_INTERVAL_S:
            self._printed_at = self._clock()
            say(f"models: {name} {percent:.0f} %", err=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None and self._bar.pos:
            self._bar.render_finish()
