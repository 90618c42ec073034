"""The download record beside a checkpoint: a small JSON file with the source, the hash and the size."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graycat.engines.models.sources import CheckpointSource

RECORD_SUFFIX = ".json"
#: No engine takes a file with this suffix for a checkpoint.
PARTIAL_SUFFIX = ".partial"


@dataclass(frozen=True, slots=True)
class DownloadRecord:
    """What graycat knows about a checkpoint that it downloaded. ``source`` contains no secrets."""

    source: str
    key: str
    sha256: str
    size: int
    #: ISO 8601, UTC.
    downloaded_at: str
    #: The commit on the Hub; '' for other sources.
    revision: str = ""


def write_json(path: Path, value: Any) -> None:
    """Write a small JSON file atomically: the file is complete, or does not change."""
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    with partial.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a small JSON file; an empty one if the file is missing or invalid."""
    with contextlib.suppress(OSError, ValueError):
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return value
    return {}


def record_path(checkpoint: Path) -> Path:
    """Return the path of a checkpoint's record."""
    return checkpoint.with_name(checkpoint.name + RECORD_SUFFIX)


def write(checkpoint: Path, record: DownloadRecord) -> None:
    """Write a checkpoint's record."""
    write_json(record_path(checkpoint), asdict(record))


def read(checkpoint: Path) -> DownloadRecord | None:
    """Return a checkpoint's record; None if it is missing or invalid."""
    try:
        return DownloadRecord(**read_json(record_path(checkpoint)))
    except TypeError:
        return None


def list_records(folder: Path) -> Iterator[tuple[Path, DownloadRecord]]:
    """Yield the completely downloaded checkpoints of a folder with their records."""
    for path in sorted(folder.glob(f"*{RECORD_SUFFIX}")):
        checkpoint = path.with_name(path.name.removesuffix(RECORD_SUFFIX))
        record = read(checkpoint)
        # The record is written before its file is there.
        if record is not None and checkpoint.is_file() and checkpoint.stat().st_size == record.size:
            yield checkpoint, record


def find(folder: Path, source: CheckpointSource) -> Path | None:
    """Return the checkpoint that was downloaded from a source; None if there is none."""
    for checkpoint, record in list_records(folder):
        if record.key == source.key and source.sha256 in ("", record.sha256):
            return checkpoint
    return None
