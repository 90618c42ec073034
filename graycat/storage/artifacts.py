"""Artifacts: finished images, each stored once as bytes, with its owner, a lifetime and a SHA-256.

They are stored in the broker (never in its queues), or on any file system that fsspec knows. Neither store ever
returns half an image: an image's description is written only after all of its bytes.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields

from graycat.bounds.stored import parse_json
from graycat.errors import RequestError
from graycat.storage.errors import ArtifactBroken

#: A task makes fewer artifacts than this.
MAX_NUMBER = 10_000

_TASK_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Artifact:
    """The description of a finished image. ``number`` counts a task's images from 0; ``size`` is in bytes."""

    task_id: str
    number: int
    content_type: str
    size: int
    sha256: str
    owner: str

    @classmethod
    def from_json(cls, text: bytes) -> Artifact:
        """Return the artifact that a JSON object describes; fields that graycat does not know are ignored.

        Raises ArtifactBroken if it describes none.
        """
        try:
            values = parse_json(text)
            known = {field.name: values[field.name] for field in fields(cls)}
        except (ValueError, TypeError, KeyError, IndexError):
            raise ArtifactBroken from None
        for name, value in known.items():
            if type(value) is not (int if name in ("number", "size") else str):
                raise ArtifactBroken
        return cls(**known)


class ArtifactStore(ABC):
    """Stores finished images. Every method raises ArtifactsUnavailable, and RequestError for an invalid task id."""

    def put(self, task_id: str, number: int, data: bytes, content_type: str, owner: str) -> Artifact:
        """Store an image, replacing any other of this number.

        Storing the same image again changes nothing; its lifetime is not extended either.
        """
        check_task_id(task_id)
        check_number(number)
        digest = hashlib.sha256(data).hexdigest()
        artifact = Artifact(task_id, number, content_type, len(data), digest, owner)

        if self._find_complete(task_id, number) != artifact:
            self._write(artifact, data)
        return artifact

    def get(self, task_id: str, number: int) -> tuple[Artifact, bytes] | None:
        """Return an image, or None if there is none. Raises ArtifactBroken if its bytes are not those that were put."""
        check_task_id(task_id)
        check_number(number)
        stored = self._read(task_id, number)
        if stored is None:
            return None

        artifact, data = stored
        if hashlib.sha256(data).hexdigest() != artifact.sha256:
            raise ArtifactBroken
        return artifact, data

    @abstractmethod
    def describe(self, task_id: str) -> list[Artifact]:
        """Return the descriptions of a task's images, ordered by number."""

    @abstractmethod
    def delete(self, task_id: str) -> None:
        """Delete a task's images, if there are any."""

    @abstractmethod
    def sweep(self, now: float) -> int:
        """Delete what is past its lifetime at ``now`` (seconds since 1970); return how many files were deleted."""

    @abstractmethod
    def _find_complete(self, task_id: str, number: int) -> Artifact | None:
        """Return the description of an image whose bytes are all stored."""

    @abstractmethod
    def _write(self, artifact: Artifact, data: bytes) -> None: ...

    @abstractmethod
    def _read(self, task_id: str, number: int) -> tuple[Artifact, bytes] | None: ...


def check_task_id(task_id: str) -> None:
    """Raise RequestError if a text cannot be a task id."""
    if not _TASK_ID.fullmatch(task_id):
        raise RequestError("a task id has 1 to 64 letters, digits, dots, dashes and underscores")


def check_number(number: int) -> None:
    """Raise RequestError if a number cannot be that of an image."""
    if not 0 <= number < MAX_NUMBER:
        raise RequestError(f"an image's number is 0 to {MAX_NUMBER - 1}")
