"""Finished images, in the broker or on any file system that fsspec knows."""

from __future__ import annotations

from graycat.broker.protocol import Broker
from graycat.settings import Settings
from graycat.storage.artifacts import ArtifactStore
from graycat.storage.redis_artifacts import BrokerArtifacts


def open_artifacts(settings: Settings, client: Broker) -> ArtifactStore:
    """Return the store that the operator chose. Raises SettingsError if its file system is not installed."""
    if settings.artifacts_url:
        # fsspec takes time and memory to load: only processes that use it load it.
        from graycat.storage.file_artifacts import FileArtifacts

        return FileArtifacts(settings.artifacts_url, settings.artifact_ttl_s)
    return BrokerArtifacts(client, settings.artifact_ttl_s)
