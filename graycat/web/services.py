"""What the views share: one typed way to the stores and services of the application."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, current_app

from graycat.auth.authenticator import Authenticator
from graycat.auth.limits import Limiter
from graycat.auth.signed_links import SignedLinks
from graycat.auth.signing import SigningKey
from graycat.batches.output import Outputs
from graycat.batches.records import BatchRecords
from graycat.broker.client import connect
from graycat.broker.protocol import Broker
from graycat.celeryapp import create_celery
from graycat.fleet.catalogs import Catalogs
from graycat.fleet.workers import WorkerRegistry, WorkerStatus, serving
from graycat.metrics.server import token_of
from graycat.queue.records import TaskRecords
from graycat.queue.topology import SD, WORKER_KINDS
from graycat.schedules.records import ScheduleRecords
from graycat.settings import Settings
from graycat.status.snapshot import SnapshotReader
from graycat.storage import open_artifacts
from graycat.storage.artifacts import ArtifactStore
from graycat.web.streaming.hub import EventHub
from graycat.web.streaming.requests import TaskGateway
from graycat.webhooks.deliveries import Deliveries

#: Seconds that a look at the fleet is good for: /props and /health are asked often.
FLEET_FRESH_S = 0.5


@dataclass
class Services:
    """The stores and services of one web process."""

    settings: Settings
    client: Broker
    tokens: Authenticator
    fleet: WorkerRegistry
    gateway: TaskGateway
    artifacts: ArtifactStore
    deliveries: Deliveries
    limiter: Limiter
    batches: BatchRecords
    outputs: Outputs
    observer: SnapshotReader
    schedules: ScheduleRecords
    gallery_links: SignedLinks
    metrics_token: str = field(repr=False)

    def __post_init__(self) -> None:
        self._workers: list[WorkerStatus] = []
        self._seen_at = -FLEET_FRESH_S
        self._catalogs = Catalogs(self.fleet)

    def workers(self) -> list[WorkerStatus]:
        """Return the workers that are alive, as of half a second ago at most."""
        now = time.monotonic()
        if now - self._seen_at >= FLEET_FRESH_S:
            self._workers, self._seen_at = self.fleet.workers(), now
        return self._workers

    def serving(self, queue: str) -> list[WorkerStatus]:
        """Return the workers that serve a queue, as of half a second ago at most."""
        return serving(self.workers(), queue)

    def look_again(self) -> None:
        """Have the next look at the fleet be a new one: something has changed it."""
        self._seen_at = -FLEET_FRESH_S

    def catalogs(self) -> dict[str, dict[str, Any]]:
        """Return what the image engines answer without work, parsed, by their workers' names."""
        # A queue that is paused goes on taking in tasks, which may name what is in these.
        there = [w for w in self.workers() if SD in w.queues and w.consuming and w.engine_state == "ready"]
        return self._catalogs.of(there)

    def missing_queues(self, workers: list[WorkerStatus]) -> list[str]:
        """Return the needed queues that no worker serves."""
        missing = []
        for kind in WORKER_KINDS.values():
            # Behind its first queue a worker takes others too, batches, which nobody waits for.
            queue = kind.queues[0]
            if kind.family is not None and kind.family.is_enabled(self.settings) and not serving(workers, queue):
                missing.append(queue)
        return missing

    @classmethod
    def build(cls, settings: Settings) -> Services:
        """Return the services of an application; nothing listens yet."""
        client = connect(settings)
        records = TaskRecords(client, settings)
        hub = EventHub(client, records)
        return cls(
            settings=settings,
            client=client,
            tokens=Authenticator.from_settings(settings, client),
            fleet=WorkerRegistry(client),
            gateway=TaskGateway(settings, records, hub, create_celery(settings)),
            artifacts=open_artifacts(settings, client),
            deliveries=Deliveries(client),
            limiter=Limiter(client),
            batches=BatchRecords(client, settings),
            outputs=Outputs(settings),
            observer=SnapshotReader(settings),
            metrics_token=token_of(settings),
            schedules=ScheduleRecords(client, settings),
            gallery_links=SignedLinks(SigningKey.from_settings(settings)),
        )


def install(app: Flask, shared: Services) -> None:
    """Make ``shared`` the services of an application."""
    app.extensions["graycat"] = shared


def services_of(app: Flask) -> Services:
    """Return the services of an application."""
    found: Services = app.extensions["graycat"]
    return found


def services() -> Services:
    """Return the services of the application that answers the current request."""
    return services_of(current_app)
