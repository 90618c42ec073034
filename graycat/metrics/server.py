"""The small metrics server beside each worker, its port, and the token that protects it."""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from graycat.errors import SettingsError
from graycat.loops.threads import GuardedThread
from graycat.loops.unexpected import note
from graycat.queue.topology import WORKER_KINDS
from graycat.settings import Settings, variable
from graycat.settings.secretfiles import load_or_create

#: Ports that a kind of worker has behind its offset: one for each GPU that it may have on one machine.
PORTS_PER_KIND = 20
#: How far behind GRAYCAT_METRICS_PORT beat has its port.
BEAT, BEAT_OFFSET = "beat", 80
#: Seconds that a scraper gets to send its request.
REQUEST_TIMEOUT_S = 5.0

#: Where health checks ask whether the process does its work.
HEALTH_PATH = "/health"

#: Returns what is wrong with a process; '' if nothing is.
Trouble = Callable[[], str]
WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class JoinedCollector(Collector):
    """Several collectors or registries as one collector."""

    def __init__(self, *collectors: Any) -> None:
        self._collectors = collectors

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of all of them."""
        for collector in self._collectors:
            yield from collector.collect()


def join_collectors(*collectors: Any) -> CollectorRegistry:
    """Return a registry of several collectors."""
    registry = CollectorRegistry()
    registry.register(JoinedCollector(*collectors))
    return registry


def metrics_port(settings: Settings, kind: str, gpu: int | None) -> int:
    """Return the port on which beat, or a worker of a kind, serves its metrics; 0 if it serves none.

    It is GRAYCAT_METRICS_PORT, the offset of its kind, and the index of its GPU. Raises SettingsError for a GPU without
    a port.
    """
    if not settings.metrics_port:
        return 0
    if kind == BEAT:
        return settings.metrics_port + BEAT_OFFSET
    worker_kind = WORKER_KINDS.get(kind)
    if worker_kind is None:
        return 0
    index = gpu or 0
    if index >= PORTS_PER_KIND:
        raise SettingsError(
            f"the metrics of GPU {gpu} have no port, a kind of worker has {PORTS_PER_KIND}: "
            f"set {variable('metrics_port')}=0 for this worker"
        )
    return settings.metrics_port + worker_kind.metrics_offset + index


def load_scrape_token(settings: Settings) -> str:
    """Return the token that a scraper of the web server must send; without one in the settings it is generated."""
    if settings.metrics_token:
        return settings.metrics_token
    return load_or_create(token_file(settings), lambda: secrets.token_urlsafe(32))


def token_file(settings: Settings) -> Path:
    """Return the file of the generated token."""
    return settings.home / "metrics-token"


class MetricsServer:
    """Serves metrics in a thread of its own."""

    def __init__(
        self, registry: CollectorRegistry, host: str, port: int, token: str = "", trouble: Trouble = lambda: ""
    ) -> None:
        """Bind the port. ``token``: what a scraper must send, '' for an open endpoint. Raises OSError.

        ``trouble``: returns why the process does not do its work, for ``/health``.
        """
        self._server = _server_class(host)((host, port), _Handler)
        self._server.set_app(add_health(require_token(make_wsgi_app(registry), token), trouble))
        self._loop = GuardedThread("metrics server", self._server.serve_forever)
        self._server.service_actions = self._loop.beat  # type: ignore[method-assign]

    @property
    def port(self) -> int:
        """Return the port that it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Start serving."""
        self._loop.start()

    def stop(self, **_: Any) -> None:
        """Stop serving (also a receiver of Celery's ``worker_shutdown``)."""
        self._loop.request_stop()
        self._server.shutdown()
        self._loop.join()
        self._server.server_close()


def has_bearer_token(header: str, token: str) -> bool:
    """Return whether an ``Authorization`` header has the token. The comparison takes constant time."""
    scheme, _, credentials = header.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(credentials.strip().encode(), token.encode())


def require_token(app: WsgiApp, token: str) -> WsgiApp:
    """Return an application that answers 401 to a request without the token."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if token and not has_bearer_token(environ.get("HTTP_AUTHORIZATION", ""), token):
            start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer"), ("Content-Type", "text/plain")])
            return [b"send GRAYCAT_METRICS_TOKEN as your bearer token\n"]
        try:
            return app(environ, start_response)
        except Exception as error:  # noqa: BLE001 (the next scrape may succeed)
            note("metrics server", error)
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"a metric could not be read, see the log\n"]

    return answer


def add_health(app: WsgiApp, trouble: Trouble) -> WsgiApp:
    """Return an application that also answers ``/health`` to anybody: 200, or 503 with what is wrong.

    ``trouble``: returns what is wrong; '' if nothing is.
    """

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != HEALTH_PATH:
            return app(environ, start_response)
        try:
            reason = trouble()
        except Exception as error:  # noqa: BLE001 (who asks must get an answer)
            note("metrics server", error)
            reason = "its state cannot be read, see the log"
        status, body = "200 OK", {"status": "ok"}
        if reason:
            status, body = "503 Service Unavailable", {"status": "unavailable", "reason": reason}
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(body).encode() + b"\n"]

    return answer


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, _request: Any, _address: Any) -> None:
        """Note what a request has raised. The base class prints it, with what the scraper sent."""
        error = sys.exception()
        if error is not None:
            note("metrics server", error)

    def server_bind(self) -> None:
        """Bind without asking the DNS what this machine is called, as the base class does."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6


def _server_class(host: str) -> type[_Server]:
    if ":" in host:
        return _Server6
    return _Server


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT_S

    def log_message(self, *_: Any) -> None:
        """Write nothing."""
