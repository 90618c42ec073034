"""The stores and services that views share, as one typed object for each application."""

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
from graycat.errors import NoSuchEngine
from graycat.families import FAMILIES, EngineFamily
from graycat.fleet.catalogs import Catalogs
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import WorkerRegistry, select_serving
from graycat.metrics.server import load_scrape_token
from graycat.queue.records import TaskRecords
from graycat.queue.topology import LLM, SD, WORKER_KINDS
from graycat.schedules.records import ScheduleRecords
from graycat.settings import Settings, variable
from graycat.status.forecaster import Forecaster
from graycat.status.snapshot import SnapshotReader
from graycat.storage import open_artifacts
from graycat.storage.artifacts import ArtifactStore
from graycat.web.streaming.hub import EventHub
from graycat.web.streaming.requests import TaskGateway
from graycat.web.streaming.token_watch import TokenWatch
from graycat.webhooks.deliveries import Deliveries
from graycat.webhooks.hooks import Hooks

#: Seconds for which the list of workers is reused: /props and /health are asked often.
WORKERS_CACHE_S = 0.5
#: Seconds for which the last answer of an engine bridges its restart.
LAST_ANSWER_TTL_S = 120.0
#: How old such an answer is, in seconds.
AGE_HEADER = "Graycat-Answer-Age"
#: The states of an engine that is about to serve.
RESTARTING_STATES = ("stopped", "downloading", "loading")


@dataclass
class Services:
    """The stores and services of one web process."""

    settings: Settings
    broker: Broker
    authenticator: Authenticator
    worker_registry: WorkerRegistry
    gateway: TaskGateway
    artifacts: ArtifactStore
    deliveries: Deliveries
    hooks: Hooks
    limiter: Limiter
    batches: BatchRecords
    outputs: Outputs
    snapshots: SnapshotReader
    schedules: ScheduleRecords
    gallery_links: SignedLinks
    image_links: SignedLinks
    token_watch: TokenWatch
    metrics_token: str = field(repr=False)

    def __post_init__(self) -> None:
        self._workers: list[WorkerStatus] = []
        #: Names of those that were alive some minutes ago.
        self._missing: list[str] = []
        self._workers_read_at = -WORKERS_CACHE_S
        #: By queue: when which workers were last seen to serve it (monotonic clock).
        self.last_serving: dict[str, tuple[float, list[WorkerStatus]]] = {}
        self._catalogs = Catalogs(self.worker_registry)
        self.forecaster = Forecaster(self.broker, self.gateway.records, self.worker_registry)

    def workers(self) -> list[WorkerStatus]:
        """Return the workers that are alive, as of half a second ago at most."""
        now = time.monotonic()
        if now - self._workers_read_at >= WORKERS_CACHE_S:
            self._workers, self._missing = self.worker_registry.alive_and_missing()
            self._workers_read_at = now
            self._remember_serving(now)
        return self._workers

    def _remember_serving(self, now: float) -> None:
        found = select_serving(self._workers, LLM)
        if found:
            self.last_serving[LLM] = (now, found)

    def select_serving(self, queue: str) -> list[WorkerStatus]:
        """Return the workers that serve a queue, as of half a second ago at most."""
        return select_serving(self.workers(), queue)

    def select_answering(self, queue: str) -> tuple[list[WorkerStatus], dict[str, str]]:
        """Return the workers whose engines can say what a client asks of them, and the headers of that answer.

        These are the workers that serve a queue. If none does just now, because an engine restarts, these are the ones
        that served it last, within LAST_ANSWER_TTL_S; the header then says how old their answer is in seconds.
        """
        if not self.select_serving(queue):
            # One may have started within the last half a second, and have answered a completion already.
            self.forget_workers()
        found = self.select_serving(queue)
        if found:
            return found, {}

        read_at, last = self.last_serving.get(queue, (0.0, []))
        age_s = time.monotonic() - read_at
        if not last or age_s > LAST_ANSWER_TTL_S:
            return [], {}
        return last, {AGE_HEADER: str(int(age_s))}

    def is_restarting(self, queue: str) -> bool:
        """Return whether a worker of a queue is alive and its engine is loading or restarting."""
        for worker in self.workers():
            takes = queue in worker.queues and queue not in worker.left and not worker.paused
            if takes and worker.engine_state in RESTARTING_STATES and not worker.crash_loop:
                return True
        return False

    def require_engine(self, family: EngineFamily) -> None:
        """Raise NoSuchEngine if this server does not run a family of engines, and no worker elsewhere serves it.

        While workers of a family that is enabled are away, its tasks wait for them. So they do while a box elsewhere
        starts anew: its workers are missed for some minutes.
        """
        if family.is_enabled(self.settings):
            return
        for worker in self.workers():
            if not set(family.queues).isdisjoint(worker.queues):
                return
        for name in self._missing:
            kind = WORKER_KINDS.get(name.partition("@")[0])
            if kind is not None and not set(family.queues).isdisjoint(kind.queues):
                return
        raise NoSuchEngine(family.purpose, variable(family.enabled_setting))

    def forget_workers(self) -> None:
        """Read the workers again at the next call, because a request has changed something about them."""
        self._workers_read_at = -WORKERS_CACHE_S

    def catalogs(self) -> dict[str, dict[str, Any]]:
        """Return what each image engine answers to its read-only routes, parsed, by the name of its worker."""
        # Workers whose queue is paused are included: a paused queue still accepts tasks, and these may name what such
        # an engine has.
        ready = [w for w in self.workers() if SD in w.queues and w.consuming and w.engine_state == "ready"]
        return self._catalogs.load(ready)

    def missing_queues(self, workers: list[WorkerStatus]) -> list[str]:
        """Return the queues that the settings ask for and no worker serves."""
        missing = []
        for kind in WORKER_KINDS.values():
            # Only the first queue of a worker is needed: no client waits for the tasks of its batch queue.
            queue = kind.queues[0]
            if kind.family is not None and kind.family.is_enabled(self.settings) and not select_serving(workers, queue):
                missing.append(queue)
        return missing

    def serves_nothing(self, workers: list[WorkerStatus]) -> bool:
        """Return whether this server runs no engine, and no worker elsewhere serves one: nothing is missing then."""
        if any(family.is_enabled(self.settings) for family in FAMILIES):
            return False
        return not any(select_serving(workers, family.interactive) for family in FAMILIES)

    @classmethod
    def build(cls, settings: Settings) -> Services:
        """Return the services of an application; its hub is not started yet."""
        broker = connect(settings)
        records = TaskRecords(broker, settings)
        hub = EventHub(broker, records)
        authenticator = Authenticator.from_settings(settings, broker)
        key = SigningKey.from_settings(settings)
        return cls(
            settings=settings,
            broker=broker,
            authenticator=authenticator,
            worker_registry=WorkerRegistry(broker),
            gateway=TaskGateway(settings, records, hub, create_celery(settings)),
            artifacts=open_artifacts(settings, broker),
            deliveries=Deliveries(broker),
            hooks=Hooks(broker),
            limiter=Limiter(broker),
            batches=BatchRecords(broker, settings),
            outputs=Outputs(settings),
            snapshots=SnapshotReader(settings),
            metrics_token=load_scrape_token(settings),
            schedules=ScheduleRecords(broker, settings),
            gallery_links=SignedLinks(key),
            image_links=SignedLinks(key, purpose="image"),
            token_watch=TokenWatch(hub, authenticator.minted),
        )


def install(app: Flask, built: Services) -> None:
    """Attach services to an application."""
    app.extensions["graycat"] = built


def services_of(app: Flask) -> Services:
    """Return the services of an application."""
    found: Services = app.extensions["graycat"]
    return found


def services() -> Services:
    """Return the services of the application that handles the current request."""
    return services_of(current_app)
