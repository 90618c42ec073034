"""Finished images in the broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from graycat.broker.client import broker_errors
from graycat.broker.keys import artifact_key, artifacts_key
from graycat.broker.protocol import Broker
from graycat.errors import BrokerUnavailable
from graycat.storage.artifacts import Artifact, ArtifactStore, checked, described
from graycat.storage.errors import ArtifactsUnavailable

#: A command's bytes go to the broker in pieces: one socket timeout is for one piece, so a slow uplink is no error.
PIECE_BYTES = 256 * 1024


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


@contextmanager
def _broker_errors() -> Iterator[None]:
    try:
        with broker_errors():
            yield
    except BrokerUnavailable as error:
        raise ArtifactsUnavailable from error
