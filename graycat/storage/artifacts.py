"""Finished images: stored once, as bytes, with their owner, a lifetime and a SHA-256; never in the broker's lists.

They lie in the broker, or on any file system that fsspec knows. Neither ever gives out half an image: its bytes are
whole before its description is there.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields

from graycat.errors import RequestError
from graycat.storage.errors import ArtifactBroken

#: A task makes fewer artifacts than this.
MAX_NUMBER = 10_000

_TASK_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Artifact:
    """What is known of a finished image. ``number`` counts a task's images from 0; ``size`` is in bytes."""

    task_id: str
    number: int
    content_type: str
    size: int
    sha256: str
    owner: str


class ArtifactStore(ABC):
    """Where finished images lie. Every method raises ArtifactsUnavailable, and RequestError for an unusable task id."""

    def put(self, task_id: str, number: int, data: bytes, content_type: str, owner: str) -> Artifact:
        """Store an image in place of what the number may hold; the same again changes nothing, nor its lifetime."""
        digest = hashlib.sha256(data).hexdigest()
        artifact = Artifact(checked(task_id), counted(number), content_type, len(data), digest, owner)
        if self._whole(task_id, number) != artifact:
            self._write(artifact, data)
        return artifact

    def get(self, task_id: str, number: int) -> tuple[Artifact, bytes] | None:
        """Return an image, None where there is none. Raises ArtifactBroken where it is not what was put."""
        found = self._read(checked(task_id), counted(number))
        if found and hashlib.sha256(found[1]).hexdigest() != found[0].sha256:
            raise ArtifactBroken
        return found

    @abstractmethod
    def describe(self, task_id: str) -> list[Artifact]:
        """Return what is known of a task's images, by number."""

    @abstractmethod
    def delete(self, task_id: str) -> None:
        """Delete a task's images, if there are any."""

    @abstractmethod
    def sweep(self, now: float) -> int:
        """Delete what is past its lifetime at ``now`` (seconds since 1970); return how many files that were."""

    @abstractmethod
    def _whole(self, task_id: str, number: int) -> Artifact | None:
        """Return what is known of an image whose bytes are all there."""

    @abstractmethod
    def _write(self, artifact: Artifact, data: bytes) -> None: ...

    @abstractmethod
    def _read(self, task_id: str, number: int) -> tuple[Artifact, bytes] | None: ...


def checked(task_id: str) -> str:
    """Return a task id that is one. Raises RequestError."""
    if not _TASK_ID.fullmatch(task_id):
        raise RequestError("a task id has 1 to 64 letters, digits, dots, dashes and underscores")
    return task_id


def counted(number: int) -> int:
    """Return an image's number that is one. Raises RequestError."""
    if not 0 <= number < MAX_NUMBER:
        raise RequestError(f"an image's number is 0 to {MAX_NUMBER - 1}")
    return int(number)


def described(text: bytes) -> Artifact:
    """Return what a description in JSON says."""
    values = json.loads(text)
    return Artifact(**{field.name: values[field.name] for field in fields(Artifact)})
