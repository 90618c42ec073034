"""What lies beside a checkpoint: a small JSON that says where it came from and what it must be."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graycat.engines.models.sources import Origin

SUFFIX = ".json"
#: No engine takes a file of this name for a checkpoint.
PARTIAL = ".partial"


@dataclass(frozen=True, slots=True)
class Record:
    """What graycat knows of a checkpoint that it downloaded. ``source`` holds no secrets."""

    source: str
    key: str
    sha256: str
    size: int
    #: ISO 8601, UTC.
    downloaded_at: str
    #: The hub's commit; '' for other origins.
    revision: str = ""


def write_json(path: Path, value: Any) -> None:
    """Write a small JSON file, whole or not at all."""
    partial = path.with_name(path.name + PARTIAL)
    with partial.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Return what a small JSON file holds; nothing where it is none."""
    with contextlib.suppress(OSError, ValueError):
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return value
    return {}


def path_of(checkpoint: Path) -> Path:
    """Return where a checkpoint's record lies."""
    return checkpoint.with_name(checkpoint.name + SUFFIX)


def write(checkpoint: Path, record: Record) -> None:
    """Write a checkpoint's record."""
    write_json(path_of(checkpoint), asdict(record))


def read(checkpoint: Path) -> Record | None:
    """Return a checkpoint's record; None where there is none that can be read."""
    try:
        return Record(**read_json(path_of(checkpoint)))
    except TypeError:
        return None


def records(folder: Path) -> Iterator[tuple[Path, Record]]:
    """Yield the checkpoints in a folder that were downloaded and are whole, with their records."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        checkpoint = path.with_name(path.name.removesuffix(SUFFIX))
        record = read(checkpoint)
        # The record comes before its file.
        if record is not None and checkpoint.is_file() and checkpoint.stat().st_size == record.size:
            yield checkpoint, record


def find(folder: Path, origin: Origin) -> Path | None:
    """Return the checkpoint that came from an origin; None where it is not here."""
    for checkpoint, record in records(folder):
        if record.key == origin.key and origin.sha256 in ("", record.sha256):
            return checkpoint
    return None
