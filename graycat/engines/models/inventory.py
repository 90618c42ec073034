"""The checkpoints of this copy: which are here, what needs them, whether they are still what was downloaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from graycat.engines.models import checkpoints, formats, metadata
from graycat.errors import SettingsError
from graycat.settings import Settings


@dataclass(frozen=True, slots=True)
class Stored:
    """A checkpoint in one of the folders. ``record``: None where graycat did not download it."""

    path: Path
    record: metadata.Record | None
    #: The settings that name it.
    used_by: tuple[str, ...] = ()
    #: Bytes of an unfinished download.
    partial: bool = False

    @property
    def name(self) -> str:
        """Return the name by which it is told from others: its folder and its file's name."""
        return f"{self.path.parent.name}/{self.path.name}"


def stored(settings: Settings) -> Iterator[Stored]:
    """Yield the checkpoints in all folders, and what is there of those to be. Raises SettingsError."""
    for kind, places in checkpoints.PLACES.items():
        used: dict[Path, list[str]] = {}
        for want in checkpoints.wanted(settings, kind):
            if want.path is not None:
                used.setdefault(want.path, []).append(want.variable)
        for place in places.values():
            folder = settings.home / place
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if formats.permitted(path.name, allow_pickle=True) and path.is_file():
                    yield Stored(path, metadata.read(path), tuple(used.get(path, ())))
                elif path.name.endswith(metadata.PARTIAL) and not path.name.endswith(
                    metadata.SUFFIX + metadata.PARTIAL
                ):
                    yield Stored(path, None, partial=True)


def intact(checkpoint: Stored) -> bool | None:
    """Tell whether a checkpoint is still what was downloaded; None where nobody knows what that was."""
    if checkpoint.record is None:
        return None
    with checkpoint.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest == checkpoint.record.sha256


def named(settings: Settings, name: str) -> Stored:
    """Return the checkpoint of a name, with or without its folder. Raises SettingsError where that is not one."""
    # Only what is listed can be named: no path leads out of the folders.
    found = [checkpoint for checkpoint in stored(settings) if name in (checkpoint.name, checkpoint.path.name)]
    if len(found) != 1:
        several = f"; name one of {', '.join(checkpoint.name for checkpoint in found)}" if found else ""
        raise SettingsError(f"{len(found) or 'no'} checkpoints are called {name!r}{several}")
    return found[0]


def remove(checkpoint: Stored) -> None:
    """Delete a checkpoint and what lies beside it."""
    checkpoint.path.unlink()
    metadata.path_of(checkpoint.path).unlink(missing_ok=True)
