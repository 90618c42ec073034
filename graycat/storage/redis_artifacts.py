"""Artifacts in the broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from graycat.broker.client import broker_errors
from graycat.broker.keys import artifact_key, artifacts_key
from graycat.broker.protocol import Broker
from graycat.errors import BrokerUnavailable
from graycat.storage.artifacts import Artifact, ArtifactStore, check_task_id
from graycat.storage.errors import ArtifactsUnavailable

#: An image's bytes are sent to the broker in pieces of this size. The socket timeout applies to each piece, so a slow
#: uplink causes no timeout.
PIECE_BYTES = 256 * 1024


class BrokerArtifacts(ArtifactStore):
    """Images in the broker: one key for each image's bytes, one hash for all descriptions of a task.

    Every key expires at the end of its lifetime.
    """

    def __init__(self, client: Broker, ttl_s: float) -> None:
        self._client = client
        self._ttl_ms = int(ttl_s * 1000)

    def describe(self, task_id: str) -> list[Artifact]:
        """Return the descriptions of a task's images, ordered by number."""
        check_task_id(task_id)
        with _broker_errors():
            descriptions = self._client.hgetall(artifacts_key(task_id)).values()
            artifacts = sorted(map(Artifact.from_json, descriptions), key=lambda artifact: artifact.number)

            # The hash lives as long as its youngest image, so older images may have expired.
            with self._client.pipeline(transaction=False) as pipe:
                for artifact in artifacts:
                    pipe.exists(artifact_key(task_id, artifact.number))
                return [artifact for artifact, exists in zip(artifacts, pipe.execute(), strict=True) if exists]

    def delete(self, task_id: str) -> None:
        """Delete a task's images, if there are any."""
        check_task_id(task_id)
        with _broker_errors():
            keys = [artifacts_key(task_id)]
            for number in self._client.hkeys(artifacts_key(task_id)):
                keys.append(artifact_key(task_id, int(number)))
            self._client.delete(*keys)

    def sweep(self, now: float) -> int:
        """Do nothing: the broker expires its keys itself."""
        return 0

    def _find_complete(self, task_id: str, number: int) -> Artifact | None:
        with _broker_errors(), self._client.pipeline(transaction=True) as pipe:
            pipe.hget(artifacts_key(task_id), number)
            pipe.exists(artifact_key(task_id, number))
            description, exists = pipe.execute()
        if not description or not exists:
            return None
        return Artifact.from_json(description)

    def _write(self, artifact: Artifact, data: bytes) -> None:
        key = artifact_key(artifact.task_id, artifact.number)
        descriptions = artifacts_key(artifact.task_id)
        with _broker_errors(), self._client.pipeline(transaction=True) as pipe:
            # After a broken connection the client sends all of this again; the result is the same.
            pipe.set(key, b"")
            # The last piece first: it makes the broker allocate room for the whole value at once.
            for start in reversed(range(0, len(data), PIECE_BYTES)):
                pipe.setrange(key, start, data[start : start + PIECE_BYTES])
            pipe.hset(descriptions, artifact.number, json.dumps(asdict(artifact)))
            pipe.pexpire(key, self._ttl_ms)
            pipe.pexpire(descriptions, self._ttl_ms)
            pipe.execute()

    def _read(self, task_id: str, number: int) -> tuple[Artifact, bytes] | None:
        with _broker_errors(), self._client.pipeline(transaction=True) as pipe:
            pipe.hget(artifacts_key(task_id), number)
            pipe.get(artifact_key(task_id, number))
            description, data = pipe.execute()
        if not description or data is None:
            return None
        return Artifact.from_json(description), data


@contextmanager
def _broker_errors() -> Iterator[None]:
    try:
        with broker_errors():
            yield
    except BrokerUnavailable as error:
        raise ArtifactsUnavailable from error
