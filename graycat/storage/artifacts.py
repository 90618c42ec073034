"""Finished images: stored once, as bytes, with their owner, a lifetime and a SHA-256; never in the broker's lists.

They lie in the broker, or on any file system that fsspec knows. Neither ever gives out half an image: its bytes are
whole before its description is there.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields

from graycat.broker.client import Broker, broker_errors
from graycat.broker.keys import artifact_key, artifacts_key
from graycat.errors import BrokerUnavailable, RequestError
from graycat.settings import Settings
from graycat.storage.errors import ArtifactBroken, ArtifactsUnavailable

#: A command's bytes go to the broker in pieces: one socket timeout is for one piece, so a slow uplink is no error.
PIECE_BYTES = 256 * 1024
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


def open_artifacts(settings: Settings, client: Broker) -> ArtifactStore:
    """Return the store that the operator chose. Raises SettingsError where its file system is not installed."""
    if settings.artifacts_url:
        # fsspec is not loaded where nobody needs it.
        from graycat.storage.file_artifacts import FileArtifacts

        return FileArtifacts(settings.artifacts_url, settings.artifact_ttl_s)
    return BrokerArtifacts(client, settings.artifact_ttl_s)


class BrokerArtifacts(ArtifactStore):
    """Images in the broker: each its bytes' key, and a task's descriptions in a hash. All end with their lifetime."""

    def __init__(self, client: Broker, ttl_s: float) -> None:
        self._client = client
        self._ttl_ms = int(ttl_s * 1000)

    def describe(self, task_id: str) -> list[Artifact]:
        """Return what is known of a task's images, by number."""
        with _broker_errors():
            known = self._client.hgetall(artifacts_key(checked(task_id)))
            artifacts = sorted(map(described, known.values()), key=lambda artifact: artifact.number)
            # The hash lives as long as the youngest image.
            with self._client.pipeline(transaction=False) as pipe:
                for artifact in artifacts:
                    pipe.exists(artifact_key(task_id, artifact.number))
                return [artifact for artifact, exists in zip(artifacts, pipe.execute(), strict=True) if exists]

    def delete(self, task_id: str) -> None:
        """Delete a task's images, if there are any."""
        with _broker_errors():
            numbers = self._client.hkeys(artifacts_key(checked(task_id)))
            keys = [artifact_key(task_id, int(number)) for number in numbers]
            self._client.delete(artifacts_key(task_id), *keys)

    def sweep(self, now: float) -> int:
        """Do nothing: the broker lets its keys end by itself."""
        return 0

    def _whole(self, task_id: str, number: int) -> Artifact | None:
        with _broker_errors(), self._client.pipeline(transaction=True) as pipe:
            pipe.hget(artifacts_key(task_id), number)
            pipe.exists(artifact_key(task_id, number))
            known, exists = pipe.execute()
        return described(known) if known and exists else None

    def _write(self, artifact: Artifact, data: bytes) -> None:
        key, known = artifact_key(artifact.task_id, artifact.number), artifacts_key(artifact.task_id)
        with _broker_errors(), self._client.pipeline(transaction=True) as pipe:
            # Sent twice after a broken connection, this does the same again.
            pipe.set(key, b"")
            # The last piece first: it makes room for all.
            for start in reversed(range(0, len(data), PIECE_BYTES)):
                pipe.setrange(key, start, data[start : start + PIECE_BYTES])
            pipe.hset(known, artifact.number, json.dumps(asdict(artifact)))
            pipe.pexpire(key, self._ttl_ms)
            pipe.pexpire(known, self._ttl_ms)
            pipe.execute()

    def _read(self, task_id: str, number: int) -> tuple[Artifact, bytes] | None:
        with _broker_errors(), self._client.pipeline(transaction=True) as pipe:
            pipe.hget(artifacts_key(task_id), number)
            pipe.get(artifact_key(task_id, number))
            known, data = pipe.execute()
        return (described(known), data) if known and data is not None else None


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


@contextmanager
def _broker_errors() -> Iterator[None]:
    try:
        with broker_errors():
            yield
    except BrokerUnavailable as error:
        raise ArtifactsUnavailable from error
