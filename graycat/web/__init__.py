"""The web application: authenticates, accepts, and brings answers back."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

from flask import Flask, Response, g, request

from graycat import tracing
from graycat.auth.authenticator import Credentials
from graycat.auth.limits import Limiter
from graycat.auth.signed_links import GalleryLinks
from graycat.auth.signing import TokenKey
from graycat.batches.output import Outputs
from graycat.batches.records import BatchRecords
from graycat.broker.client import connect
from graycat.celeryapp import create_celery
from graycat.egress import allowlist
from graycat.fleet.catalogs import Catalogs
from graycat.fleet.workers import Fleet, WorkerStatus, serving
from graycat.metrics.server import token_of
from graycat.queue.records import TaskRecords
from graycat.queue.topology import LLM, LLM_QUICK, SD
from graycat.schedules.records import ScheduleRecords
from graycat.settings import Settings
from graycat.status.snapshot import Observer
from graycat.storage.artifacts import ArtifactStore, open_artifacts
from graycat.web import errors, limits
from graycat.web.api import batches, events, gallery, health, metrics, schedules, tasks, tokens, webhooks
from graycat.web.api import images as task_images
from graycat.web.compat import llamacpp, openai, openai_images, webui
from graycat.web.middleware import tracing as request_tracing
from graycat.web.middleware.not_modified import UnchangedTasks
from graycat.web.openapi import document
from graycat.web.streaming.hub import EventHub
from graycat.web.streaming.requests import TicketOffice
from graycat.webhooks.deliveries import Deliveries

logger = logging.getLogger(__name__)

#: Seconds that a look at the fleet is good for: /props and /health are asked often.
FLEET_FRESH_S = 0.5
#: What a caller's request id may look like; anything else is replaced.
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


#: Probes and progress bars ask every second, games tokenize at every key: their successes are not worth a line each.
QUIET_ENDPOINTS = frozenset(
    {"health.live", "health.healthy", "health.ready", "llamacpp.props", "llamacpp.tokenize", "llamacpp.detokenize"}
    | {"sdapi.progress", "metrics.scrape", "metrics.status"}
)
#: What has routes: each a module with its blueprint ``bp``.
PARTS = (
    *(llamacpp, openai, webui, openai_images, health, metrics, tasks, tokens, events, webhooks),
    *(task_images, batches, gallery, schedules, document),
)


@dataclass
class Extension:
    """What the views share; ``app.extensions["graycat"]``."""

    settings: Settings
    tokens: Credentials
    fleet: Fleet
    office: TicketOffice
    artifacts: ArtifactStore
    deliveries: Deliveries
    limiter: Limiter
    batches: BatchRecords
    outputs: Outputs
    observer: Observer
    schedules: ScheduleRecords
    gallery_links: GalleryLinks
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
        needed = (*((LLM, LLM_QUICK) if self.settings.run_llm else ()), *((SD,) if self.settings.run_sd else ()))
        return [queue for queue in needed if not serving(workers, queue)]


def create_app(settings: Settings) -> Flask:
    """Return the application; its hub listens already."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    # Objects keep the order in which engines wrote them.
    app.json.sort_keys = False  # type: ignore[attr-defined]
    # A mistake in it shows when the process starts, not at the first webhook.
    allowlist(settings.webhook_allow)
    client = connect(settings)
    records = TaskRecords(client, settings)
    hub = EventHub(client, records)
    office = TicketOffice(settings, records, hub, create_celery(settings))
    extension = Extension(
        settings=settings,
        tokens=Credentials.from_settings(settings, client),
        fleet=Fleet(client),
        office=office,
        artifacts=open_artifacts(settings, client),
        deliveries=Deliveries(client),
        limiter=Limiter(client),
        batches=BatchRecords(client, settings),
        outputs=Outputs(settings),
        observer=Observer(settings),
        metrics_token=token_of(settings),
        schedules=ScheduleRecords(client, settings),
        gallery_links=GalleryLinks(TokenKey.from_settings(settings)),
    )
    app.extensions["graycat"] = extension
    app.before_request(_begin)
    app.after_request(_end)
    app.after_request(limits.tell)
    if settings.traces_url:
        request_tracing.init_app(app, tracing.start(settings, "web"), records)
    errors.init_app(app)
    for part in PARTS:
        app.register_blueprint(part.bp)
    app.wsgi_app = UnchangedTasks(app.wsgi_app, client, extension.tokens)  # type: ignore[method-assign]
    hub.start()
    return app


def _begin() -> None:
    g.started = time.monotonic()
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if REQUEST_ID.fullmatch(given) else uuid4().hex


def _end(response: Response) -> Response:
    response.headers["X-Request-ID"] = g.request_id
    extra = {"method": request.method, "route": request.url_rule or "-", "status": response.status_code}
    extra |= {"owner": g.get("owner", "-"), "task_id": g.get("task_id", "-"), "request_id": g.request_id}
    quiet = request.endpoint in QUIET_ENDPOINTS and response.status_code < 400
    level = logging.DEBUG if quiet else logging.INFO
    # When all of it is sent: a line costs more than a token, and a stream's first is waited for.
    response.call_on_close(partial(_log, level, g.started, extra))
    response.call_on_close(metrics.Measure(response).end)
    return response


def _log(level: int, started: float, extra: dict[str, Any]) -> None:
    logger.log(level, "request", extra=extra | {"ms": round((time.monotonic() - started) * 1000)})
