"""Finished images as files, on any file system that fsspec knows: a folder, a bucket, a host behind SFTP."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any
from uuid import uuid4

from graycat.errors import GraycatError
from graycat.settings import variable
from graycat.storage import filesystems
from graycat.storage.artifacts import Artifact, ArtifactStore, checked, described
from graycat.storage.errors import ArtifactBroken, ArtifactsUnavailable

#: What a sweep may delete, below the root: descriptions, bytes, and what was left half written.
_OURS = re.compile(r"task-[A-Za-z0-9._-]{1,64}/\d+(\.json|-[0-9a-f]{64}\.data)(\.[0-9a-f]{32}\.part)?")


class FileArtifacts(ArtifactStore):
    """Images as files: ``task-ID/N-SHA256.data``, and ``task-ID/N.json`` beside it, which is what counts.

    Bytes that replace others lie in a file of their own until the description names it; the replaced ones go with the
    next sweep, for somebody may be reading them. Made in the process that uses it: fsspec's connections do not fork.
    """

    def __init__(self, url: str, ttl_s: float, clock: Callable[[], float] = time.time) -> None:
        opened = filesystems.open_url(url, variable("artifacts_url"))
        self._fs, self._root, self._appears_whole = opened.fs, opened.root, opened.appears_whole
        self._ttl_s = ttl_s
        self._clock = clock

    def __repr__(self) -> str:
        return f"FileArtifacts({type(self._fs).__name__})"

    def describe(self, task_id: str) -> list[Artifact]:
        """Return what is known of a task's images, by number."""
        with _file_errors():
            try:
                paths = self._fs.ls(self._folder(checked(task_id)), detail=False)
            except FileNotFoundError:
                return []
            names = [str(path).rpartition("/")[2] for path in paths]
            numbers = sorted(int(name[:-5]) for name in names if name[:-5].isdecimal() and name.endswith(".json"))
        found = (self._whole(task_id, number) for number in numbers)
        return [artifact for artifact in found if artifact]

    def delete(self, task_id: str) -> None:
        """Delete a task's images, if there are any."""
        with _file_errors(), suppress(FileNotFoundError):
            self._fs.rm(self._folder(checked(task_id)), recursive=True)

    def sweep(self, now: float) -> int:
        """Delete files of ours that are older than their lifetime at ``now``; return how many."""
        with _file_errors():
            try:
                files = self._fs.find(self._root, detail=True)
            except FileNotFoundError:
                return 0
            ours = {path: info for path, info in files.items() if _OURS.fullmatch(path[len(self._root) :].strip("/"))}
            old = [path for path, info in ours.items() if self._modified(path, info) + self._ttl_s <= now]
            for path in old:
                with suppress(FileNotFoundError):
                    self._fs.rm_file(path)
            for folder in {path.rpartition("/")[0] for path in old} if not self._appears_whole else ():
                # It may hold younger files.
                with suppress(OSError):
                    self._fs.rmdir(folder)
        return len(old)

    def _modified(self, path: str, info: dict[str, Any]) -> float:
        """Return when a file was written, in seconds since 1970."""
        stamp = info.get("mtime") or info.get("LastModified") or self._fs.modified(path)
        return float(stamp if isinstance(stamp, (int, float)) else stamp.timestamp())

    def _folder(self, task_id: str) -> str:
        # The word before the id makes one of "." or ".." a name like any other.
        return f"{self._root.rstrip('/')}/task-{task_id}"

    def _description(self, task_id: str, number: int) -> str:
        return f"{self._folder(task_id)}/{number}.json"

    def _data(self, artifact: Artifact) -> str:
        return f"{self._folder(artifact.task_id)}/{artifact.number}-{artifact.sha256}.data"

    def _known(self, task_id: str, number: int) -> Artifact | None:
        """Return what a description says; one past its lifetime says nothing."""
        try:
            text = self._fs.cat_file(self._description(task_id, number))
        except FileNotFoundError:
            return None
        try:
            expires_at = float(json.loads(text)["expires_at"])
            artifact = described(text)
        except (ValueError, TypeError, KeyError) as error:
            raise ArtifactBroken from error
        if (artifact.task_id, artifact.number) != (task_id, number):
            raise ArtifactBroken
        return artifact if self._clock() < expires_at else None

    def _whole(self, task_id: str, number: int) -> Artifact | None:
        with _file_errors(), suppress(FileNotFoundError, ArtifactBroken):
            artifact = self._known(task_id, number)
            if artifact and self._fs.size(self._data(artifact)) == artifact.size:
                return artifact
        return None

    def _write(self, artifact: Artifact, data: bytes) -> None:
        description = asdict(artifact) | {"expires_at": self._clock() + self._ttl_s}
        with _file_errors():
            # An object store has no folders; s3fs would look for its bucket, and make it.
            if not self._appears_whole:
                self._fs.makedirs(self._folder(artifact.task_id), exist_ok=True)
            self._write_whole(self._data(artifact), data)
            self._write_whole(self._description(artifact.task_id, artifact.number), json.dumps(description).encode())

    def _write_whole(self, path: str, data: bytes) -> None:
        part = path if self._appears_whole else f"{path}.{uuid4().hex}.part"
        self._fs.pipe_file(part, data)
        if part != path:
            self._fs.mv(part, path)

    def _read(self, task_id: str, number: int) -> tuple[Artifact, bytes] | None:
        with _file_errors(), suppress(FileNotFoundError):
            artifact = self._known(task_id, number)
            return (artifact, self._fs.cat_file(self._data(artifact))) if artifact else None
        return None


@contextmanager
def _file_errors() -> Iterator[None]:
    try:
        yield
    except GraycatError:
        raise
    except Exception as error:  # each file system has errors of its own, few of them an OSError
        raise ArtifactsUnavailable from error
