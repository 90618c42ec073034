"""The web application: authenticates, accepts, and brings answers back."""

from __future__ import annotations

import logging
import re
import time
from functools import partial
from typing import Any
from uuid import uuid4

from flask import Flask, Response, g, request

from graycat import tracing
from graycat.egress import allowlist
from graycat.settings import Settings
from graycat.web import errors, limits
from graycat.web.api import batches, events, gallery, health, metrics, schedules, tasks, tokens, webhooks
from graycat.web.api import images as task_images
from graycat.web.compat import llamacpp, openai, openai_images, webui
from graycat.web.middleware import tracing as request_tracing
from graycat.web.middleware.not_modified import NotModifiedMiddleware
from graycat.web.openapi import document
from graycat.web.services import Services, install

logger = logging.getLogger(__name__)

#: What a caller's request id may look like; anything else is replaced.
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


#: Probes and progress bars ask every second, games tokenize at every key: their successes are not worth a line each.
QUIET_ENDPOINTS = frozenset(
    {"health.live", "health.healthy", "health.ready", "llamacpp.props", "llamacpp.tokenize", "llamacpp.detokenize"}
    | {"sdapi.progress", "metrics.scrape", "metrics.status"}
)
#: What has routes: each a module with its blueprint ``bp``.
BLUEPRINTS = (
    *(llamacpp, openai, webui, openai_images, health, metrics, tasks, tokens, events, webhooks),
    *(task_images, batches, gallery, schedules, document),
)


def create_app(settings: Settings) -> Flask:
    """Return the application; its hub listens already."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    # Objects keep the order in which engines wrote them.
    app.json.sort_keys = False  # type: ignore[attr-defined]
    # A mistake in it shows when the process starts, not at the first webhook.
    allowlist(settings.webhook_allow)
    shared = Services.build(settings)
    install(app, shared)
    app.before_request(_begin)
    app.after_request(_end)
    app.after_request(limits.tell)
    if settings.traces_url:
        request_tracing.init_app(app, tracing.start(settings, "web"), shared.gateway.records)
    errors.init_app(app)
    for part in BLUEPRINTS:
        app.register_blueprint(part.bp)
    app.wsgi_app = NotModifiedMiddleware(app.wsgi_app, shared.client, shared.tokens)  # type: ignore[method-assign]
    shared.gateway.hub.start()
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
