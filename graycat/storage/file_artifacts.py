"""Artifacts as files, on any file system that fsspec knows: a folder, a bucket, a host behind SFTP."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from typing import Any
from uuid import uuid4

from graycat.bounds.stored import parse_json
from graycat.settings import variable
from graycat.storage import filesystems
from graycat.storage.artifacts import Artifact, ArtifactStore, check_task_id
from graycat.storage.errors import ArtifactBroken, ArtifactsUnavailable

#: Paths below the root that a sweep may delete: descriptions, image bytes, and half-written files of both.
_DELETABLE = re.compile(r"task-[A-Za-z0-9._-]{1,64}/\d+(\.json|-[0-9a-f]{64}\.data)(\.[0-9a-f]{32}\.part)?")


class FileArtifacts(ArtifactStore):
    """Images as files: the bytes in ``task-ID/N-SHA256.data``, the description in ``task-ID/N.json``.

    An image exists once its description does. New bytes for a number go into a file of their own, because a reader may
    still read the old file; the next sweep deletes the old one after its lifetime. Create it in the process that uses
    it: fsspec's connections do not survive a fork.
    """

    def __init__(self, url: str, ttl_s: float, clock: Callable[[], float] = time.time) -> None:
        root = filesystems.open_url(url, variable("artifacts_url"))
        self._fs = root.fs
        self._root = root.path
        self._atomic_writes = root.atomic_writes
        self._ttl_s = ttl_s
        self._clock = clock

    def __repr__(self) -> str:
        return f"FileArtifacts({type(self._fs).__name__})"

    def describe(self, task_id: str) -> list[Artifact]:
        """Return the descriptions of a task's images, ordered by number."""
        check_task_id(task_id)
        artifacts = []
        for number in self._list_numbers(task_id):
            artifact = self._find_complete(task_id, number)
            if artifact is not None:
                artifacts.append(artifact)
        return artifacts

    def delete(self, task_id: str) -> None:
        """Delete a task's images, if there are any."""
        check_task_id(task_id)
        with _file_errors(), suppress(FileNotFoundError):
            self._fs.rm(self._folder(task_id), recursive=True)

    def sweep(self, now: float) -> int:
        """Delete files of graycat's that are past their lifetime at ``now``; return how many were deleted."""
        with _file_errors():
            try:
                files = self._fs.find(self._root, detail=True)
            except FileNotFoundError:
                return 0

            expired = []
            for path, info in files.items():
                relative = path[len(self._root) :].strip("/")
                if _DELETABLE.fullmatch(relative) and self._modified_at(path, info) + self._ttl_s <= now:
                    expired.append(path)

            for path in expired:
                with suppress(FileNotFoundError):
                    self._fs.rm_file(path)
            self._remove_empty_folders(expired)
        return len(expired)

    def _list_numbers(self, task_id: str) -> list[int]:
        """Return the numbers of a task's descriptions, in order."""
        numbers = []
        with _file_errors():
            try:
                paths = self._fs.ls(self._folder(task_id), detail=False)
            except FileNotFoundError:
                return []
            for path in paths:
                stem, dot, suffix = str(path).rpartition("/")[2].rpartition(".")
                if dot and suffix == "json" and stem.isdecimal():
                    numbers.append(int(stem))
        return sorted(numbers)

    def _remove_empty_folders(self, deleted: list[str]) -> None:
        """Remove the folders of deleted files. An object store has no folders."""
        if self._atomic_writes:
            return
        for folder in {path.rpartition("/")[0] for path in deleted}:
            # A folder that still holds younger files cannot be removed.
            with suppress(OSError):
                self._fs.rmdir(folder)

    def _modified_at(self, path: str, info: dict[str, Any]) -> float:
        """Return when a file was written, in seconds since 1970."""
        stamp = info.get("mtime") or info.get("LastModified") or self._fs.modified(path)
        if isinstance(stamp, (int, float)):
            return float(stamp)
        return float(stamp.timestamp())

    def _folder(self, task_id: str) -> str:
        # "." and ".." are valid task ids; with the prefix they are ordinary names.
        return f"{self._root.rstrip('/')}/task-{task_id}"

    def _description_path(self, task_id: str, number: int) -> str:
        return f"{self._folder(task_id)}/{number}.json"

    def _data_path(self, artifact: Artifact) -> str:
        return f"{self._folder(artifact.task_id)}/{artifact.number}-{artifact.sha256}.data"

    def _read_description(self, task_id: str, number: int) -> Artifact | None:
        """Return an image's description; None if there is none or its lifetime is over."""
        try:
            text = self._fs.cat_file(self._description_path(task_id, number))
        except FileNotFoundError:
            return None

        try:
            expires_at = float(parse_json(text)["expires_at"])
            artifact = Artifact.from_json(text)
        except (ValueError, TypeError, KeyError) as error:
            raise ArtifactBroken from error
        if (artifact.task_id, artifact.number) != (task_id, number):
            raise ArtifactBroken

        if self._clock() >= expires_at:
            return None
        return artifact

    def _find_complete(self, task_id: str, number: int) -> Artifact | None:
        with _file_errors(), suppress(FileNotFoundError, ArtifactBroken):
            artifact = self._read_description(task_id, number)
            if artifact and self._fs.size(self._data_path(artifact)) == artifact.size:
                return artifact
        return None

    def _write(self, artifact: Artifact, data: bytes) -> None:
        description = asdict(artifact) | {"expires_at": self._clock() + self._ttl_s}
        with _file_errors():
            # On an object store, s3fs would look for its bucket here, and create it.
            if not self._atomic_writes:
                self._fs.makedirs(self._folder(artifact.task_id), exist_ok=True)
            self._write_file(self._data_path(artifact), data)
            self._write_file(
                self._description_path(artifact.task_id, artifact.number), json.dumps(description).encode()
            )

    def _write_file(self, path: str, data: bytes) -> None:
        if self._atomic_writes:
            self._fs.pipe_file(path, data)
            return
        part = f"{path}.{uuid4().hex}.part"
        self._fs.pipe_file(part, data)
        self._fs.mv(part, path)

    def _read(self, task_id: str, number: int) -> tuple[Artifact, bytes] | None:
        with _file_errors(), suppress(FileNotFoundError):
            artifact = self._read_description(task_id, number)
            if artifact is not None:
                return artifact, self._fs.cat_file(self._data_path(artifact))
        return None


def _file_errors() -> AbstractContextManager[None]:
    return filesystems.translate_errors(lambda _: ArtifactsUnavailable())
