"""The checkpoints on this machine: which settings use them, and whether they are intact."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from graycat.engines.models import checkpoints, formats, metadata
from graycat.errors import SettingsError
from graycat.settings import Settings


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A file in one of the checkpoint folders. ``record``: None if graycat did not download it."""

    path: Path
    record: metadata.DownloadRecord | None
    #: The names of the settings that use it.
    used_by: tuple[str, ...] = ()
    #: Whether it is an unfinished download.
    partial: bool = False

    @property
    def name(self) -> str:
        """Return its unique name: folder and file name."""
        return f"{self.path.parent.name}/{self.path.name}"


def list_stored(settings: Settings) -> Iterator[StoredCheckpoint]:
    """Yield the checkpoints and the unfinished downloads in all folders. Raises SettingsError."""
    for kind, folders in checkpoints.FOLDERS.items():
        used_by = _find_users(settings, kind)
        for subfolder in folders.values():
            folder = settings.home / subfolder
            if not folder.is_dir():
                continue
            for path in sorted(folder.iterdir()):
                if formats.is_checkpoint_name(path.name, allow_pickle=True) and path.is_file():
                    yield StoredCheckpoint(path, metadata.read(path), tuple(used_by.get(path, ())))
                elif _is_partial_download(path):
                    yield StoredCheckpoint(path, None, partial=True)


def _find_users(settings: Settings, kind: str) -> dict[Path, list[str]]:
    """Return the names of the settings that use each downloaded or local file. Raises SettingsError."""
    used_by: dict[Path, list[str]] = {}
    for required in checkpoints.list_required(settings, kind):
        if required.path is not None:
            used_by.setdefault(required.path, []).append(required.variable)
    return used_by


def _is_partial_download(path: Path) -> bool:
    """Return whether a file is an unfinished download, and not an unfinished record."""
    unfinished_record = metadata.RECORD_SUFFIX + metadata.PARTIAL_SUFFIX
    return path.name.endswith(metadata.PARTIAL_SUFFIX) and not path.name.endswith(unfinished_record)


def is_intact(checkpoint: StoredCheckpoint) -> bool | None:
    """Return whether a checkpoint still has the hash it was downloaded with; None if that hash is unknown."""
    if checkpoint.record is None:
        return None
    with checkpoint.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest == checkpoint.record.sha256


def find_by_name(settings: Settings, name: str) -> StoredCheckpoint:
    """Return the one checkpoint of this name, with or without its folder. Raises SettingsError if there is not one."""
    # Only names from the listing are accepted, so no name can lead out of the folders.
    matches = [checkpoint for checkpoint in list_stored(settings) if name in (checkpoint.name, checkpoint.path.name)]
    if not matches:
        raise SettingsError(f"no checkpoints are called {name!r}; `graycat models list` shows their names")
    if len(matches) > 1:
        names = ", ".join(checkpoint.name for checkpoint in matches)
        raise SettingsError(f"{len(matches)} checkpoints are called {name!r}; name one of {names}")
    return matches[0]


def remove(checkpoint: StoredCheckpoint) -> None:
    """Delete a checkpoint and its record."""
    checkpoint.path.unlink()
    metadata.record_path(checkpoint.path).unlink(missing_ok=True)
