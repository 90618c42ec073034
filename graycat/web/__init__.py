"""The web application: authenticates requests, turns them into tasks, and returns their answers."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Any
from uuid import uuid4

from flask import Flask, Response, g, request

from graycat import tracing
from graycat.egress import allowlist
from graycat.front.cors import Cors
from graycat.settings import Settings
from graycat.web import errors, limits, page
from graycat.web.api import batches, events, fleet, gallery, health, metrics, schedules, tasks, tokens, usage, webhooks
from graycat.web.api import images as task_images
from graycat.web.api import workflows as workflow_lists
from graycat.web.compat import anthropic, llamacpp, openai, openai_images, webui
from graycat.web.docs import guides, reference
from graycat.web.links import make_public
from graycat.web.middleware import prefix
from graycat.web.middleware import tracing as request_tracing
from graycat.web.middleware.cors import CorsMiddleware
from graycat.web.middleware.headers import add_security_headers
from graycat.web.middleware.not_modified import NotModifiedMiddleware
from graycat.web.middleware.request import REQUEST_ID, CheckedRequest, check_encodings
from graycat.web.middleware.slashes import SlashesMiddleware
from graycat.web.openapi import document, queries
from graycat.web.services import Services, install

logger = logging.getLogger(__name__)

#: Endpoints whose successful requests are logged at DEBUG only: probes and progress bars ask every second, and games
#: tokenize at every key.
QUIET_ENDPOINTS = frozenset(
    {
        "health.live",
        "health.engine",
        "health.ready",
        "health.web",
        "page.index",
        "page.state",
        "page.asset",
        "llamacpp.props",
        "llamacpp.tokenize",
        "llamacpp.detokenize",
        "sdapi.progress",
        "metrics.scrape",
        "metrics.status",
    }
)
#: Those whose 503 says how the workers are, not that something went wrong. Whoever waits asks several times a second.
PROBES = frozenset({"health.ready", "health.web"})
#: The modules with routes; each has a blueprint ``bp``.
ROUTE_MODULES = (
    llamacpp,
    openai,
    anthropic,
    webui,
    openai_images,
    health,
    metrics,
    fleet,
    tasks,
    tokens,
    usage,
    events,
    webhooks,
    task_images,
    workflow_lists,
    batches,
    gallery,
    schedules,
    document,
    reference,
    guides,
    page,
)


def create_app(settings: Settings) -> Flask:
    """Return the application, with its hub already listening."""
    app = Flask(__name__)
    app.request_class = CheckedRequest
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    # Keep JSON objects in the order in which engines wrote them.
    app.json.sort_keys = False  # type: ignore[attr-defined]
    # Parse it once here, so that a mistake in it shows when the process starts, not at the first webhook.
    allowlist(settings.webhook_allow)
    built = Services.build(settings)
    install(app, built)

    app.before_request(_start_request)
    app.after_request(_finish_request)
    app.after_request(add_security_headers)
    app.after_request(limits.add_limit_headers)
    if settings.traces_url:
        request_tracing.init_app(app, tracing.start(settings, "web"), built.gateway.records)
    app.before_request(check_encodings)
    app.before_request(queries.check)
    errors.init_app(app)

    for module in ROUTE_MODULES:
        app.register_blueprint(module.bp)
    app.wsgi_app = NotModifiedMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, built.broker, built.authenticator
    )
    cors = Cors(settings.allowed_origins)
    if cors:
        app.wsgi_app = CorsMiddleware(app.wsgi_app, cors)  # type: ignore[method-assign]
    prefix.init_app(app, settings)
    # Before all others: each of them looks at the path.
    app.wsgi_app = SlashesMiddleware(app.wsgi_app)  # type: ignore[method-assign]
    built.gateway.hub.start()
    if settings.cancels_revoked_tasks:
        built.token_watch.start()
    return app


def _start_request() -> None:
    g.started_at = time.monotonic()
    request_id = request.headers.get("X-Request-ID", "")
    if not REQUEST_ID.fullmatch(request_id):
        request_id = uuid4().hex
    g.request_id = request_id


def _finish_request(response: Response) -> Response:
    response.headers["X-Request-ID"] = g.request_id
    make_public(response)
    fields = {
        "method": request.method,
        "route": request.url_rule or "-",
        "status": response.status_code,
        "owner": g.get("owner", "-"),
        "task_id": g.get("task_id", "-"),
        "request_id": g.request_id,
    }
    level = logging.INFO
    quiet = response.status_code < 400 or (request.endpoint in PROBES and response.status_code == 503)
    if request.endpoint in QUIET_ENDPOINTS and quiet:
        level = logging.DEBUG
    # Log only when the whole response is sent: writing a line takes longer than sending a token, and clients wait for
    # the first token of a stream.
    response.call_on_close(partial(_log_request, level, g.started_at, fields))
    response.call_on_close(metrics.RequestMetrics(response).end)
    return response


def _log_request(level: int, started_at: float, fields: dict[str, Any]) -> None:
    fields["ms"] = round((time.monotonic() - started_at) * 1000)
    logger.log(level, "request", extra=fields)
