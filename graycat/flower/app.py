"""Flower as graycat runs it: every path needs a password, and no path runs a task.

Flower itself serves /metrics and /healthcheck without a password, and its API can run and revoke any task. Here each
request needs the password, and the only requests that change something pause, resume or drain a worker.
"""

from __future__ import annotations

import hmac
import logging
import os
import re
import signal
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import flower
import redis
from celery import Celery
from celery.events import EventReceiver
from flower.api.control import ControlHandler
from flower.app import Flower
from flower.events import Events
from flower.options import options
from flower.urls import settings as flower_settings
from kombu.exceptions import OperationalError
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.ioloop import IOLoop
from tornado.template import filter_whitespace
from tornado.web import HTTPError, OutputTransform, RequestHandler, StaticFileHandler, authenticated

from graycat.loops.unexpected import note
from graycat.settings import Settings

logger = logging.getLogger(__name__)

USER = "graycat"
#: The task that beat sends (``queue/kinds.py``).
TICK = "control.fire_schedules"
#: Tasks that Flower keeps in memory.
MAX_TASKS = 10_000
#: Milliseconds between two saves of its state to disk. Saving 50,000 tasks takes a second.
SAVE_INTERVAL_MS = 60_000
#: Seconds in which a worker answers a control command.
REPLY_TIMEOUT_S = 3.0
#: Seconds between two attempts to receive the workers' events; Flower itself doubles its pause without a limit.
RECONNECT_INTERVAL_S = 1.0
#: Paths that accept POST: the allowed commands, and a query that is too long for a URL.
POST_PATHS = re.compile(r"/api/worker/(shutdown|pause|resume|drain)/.+|/tasks/datatable")
SCRIPT = b'<script src="/graycat/flower.js"></script></body>'
STATIC = Path(__file__).parent / "static"


class WorkerCommand(ControlHandler):
    """Sends a control command that Flower itself does not have to a worker."""

    def initialize(self, command: str) -> None:
        """Take the control command of the route."""
        self._command = command

    @authenticated
    async def post(self, name: str) -> None:
        """Send the command to a worker, and answer with its reply."""
        if not self.is_worker(name):
            raise HTTPError(404, "there is no worker of this name")
        arguments = {"destination": [name], "reply": True, "timeout": REPLY_TIMEOUT_S}
        replies = await self.run_blocking(
            f"worker.{self._command}", name, self.capp.control.broadcast, self._command, **arguments
        )
        if not replies:
            raise HTTPError(504, "the worker does not answer")
        reply = next(iter(replies[0].values()))
        if "ok" not in reply:
            raise HTTPError(409, str(reply.get("error", "the worker does not know this command")))
        self.write({"message": f"{name} {reply['ok']}"})


class Refusal(RequestHandler):
    """Answers requests that are not allowed."""

    def initialize(self, status: int) -> None:
        """Take the status of the answer."""
        self._status = status

    def check_xsrf_cookie(self) -> None:
        """Check nothing: a refused request changes nothing."""

    async def prepare(self) -> None:
        """Answer a request of any method."""
        self.set_status(self._status)
        if self._status == 401:
            self.set_header("WWW-Authenticate", 'Basic realm="Flower of graycat"')
            self.finish("Access denied")
        else:
            self.finish("graycat's Flower does not do this: use the API of tasks")


def _inline_scripts() -> Iterator[str]:
    """Yield the scripts in Flower's own templates, as its pages hold them."""
    for template in sorted((Path(flower.__file__).parent / "templates").glob("*.html")):
        for script in re.findall(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", template.read_text(), re.DOTALL):
            # The only value in them, which Flower writes as a number.
            for number in ("0", "1"):
                filled = re.sub(r"\{\{\s*autorefresh\s*\}\}", number, script)
                # As Tornado writes a page.
                yield filter_whitespace("single", filled)


def _build_policy() -> str:
    """Return the content security policy of Flower's pages: what it brings itself, in nobody's frame."""
    hashes = []
    for script in _inline_scripts():
        hashes.append(f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'")
    scripts = " ".join(["'self'", *hashes])
    # Its tables set styles of their own.
    own = f"default-src 'self'; script-src {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
    return f"{own}; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


#: Headers of every answer.
HEADERS = {
    "Content-Security-Policy": _build_policy(),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


class SecurityHeaders(OutputTransform):
    """Adds security headers to every answer, Flower's own and refusals."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        """Add the headers to the first chunk of an answer."""
        for name, value in HEADERS.items():
            headers[name] = value
        return status_code, headers, chunk


class ScriptInjector(OutputTransform):
    """Adds graycat's buttons to Flower's pages."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        """Add a script to the end of a page."""
        if finishing and headers.get("Content-Type", "").startswith("text/html") and b"</body>" in chunk:
            chunk = chunk.replace(b"</body>", SCRIPT)
            headers["Content-Length"] = str(len(chunk))
        return status_code, headers, chunk


class ReconnectingEvents(Events):
    """Receives the workers' events, also again soon after any outage of the broker."""

    def load_state(self) -> Any:
        """Return the saved state; None if there is none. Ticks of the schedules, which earlier releases saved, go."""
        state = super().load_state()
        if state is not None:
            for task_id, task in list(state.tasks.items()):
                if task.name == TICK:
                    del state.tasks[task_id]
            state.rebuild_taskheap()
            state.search_engine.rebuild(state.tasks.items())
        return state

    def run(self) -> None:
        """Receive events until the process ends."""
        while True:
            try:
                with self.capp.connection() as connection:
                    receiver = EventReceiver(connection, handlers={"*": self.on_event}, app=self.capp)
                    receiver.capture(limit=None, timeout=None, wakeup=True)
            except (redis.RedisError, OperationalError, OSError) as error:
                logger.warning("flower receives no events", extra={"reason": type(error).__name__})
            except Exception as error:  # noqa: BLE001 (any client of the broker may publish on the channel)
                note("flower events", error)
            time.sleep(RECONNECT_INTERVAL_S)


class GuardedFlower(Flower):
    """Flower with a password on every path. It can pause, resume and drain workers, and change nothing else."""

    def __init__(self, app: Celery, password: str, events: Events) -> None:
        self._credentials = b"Basic " + b64encode(f"{USER}:{password}".encode())
        super().__init__(options, app, events, transforms=[ScriptInjector, SecurityHeaders], **flower_settings)
        routes: list[Any] = [(r"/graycat/(flower\.js)", StaticFileHandler, {"path": str(STATIC)})]
        for verb in ("pause", "resume", "drain"):
            routes.append((rf"/api/worker/{verb}/(.+)", WorkerCommand, {"command": f"{verb}_worker"}))
        self.add_handlers(".*", routes)

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """Return what answers a request: Flower if it is allowed, else a refusal."""
        credentials = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(credentials, self._credentials):
            return self.get_handler_delegate(request, Refusal, {"status": 401})
        if request.method not in ("GET", "HEAD") and not POST_PATHS.fullmatch(request.path):
            return self.get_handler_delegate(request, Refusal, {"status": 403})
        return super().find_handler(request, **kwargs)


def configure(settings: Settings, password: str) -> None:
    """Set Flower's options. Its own command would take them, also the password, from the command line."""
    folder = settings.home / "flower"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Flower's file is a pickle: a user who can write it can run code.
    folder.chmod(0o700)
    values = {
        "address": settings.flower_host,
        "port": settings.flower_port,
        # Flower's own check of the password brings its check against requests from other sites.
        "basic_auth": [f"{USER}:{password}"],
        "persistent": True,
        "db": str(folder / "flower"),
        "state_save_interval": SAVE_INTERVAL_MS,
        "max_tasks": MAX_TASKS,
    }
    for name, value in values.items():
        setattr(options, name, value)


def create(app: Celery, settings: Settings, password: str) -> GuardedFlower:
    """Return Flower, not yet started."""
    configure(settings, password)
    events = ReconnectingEvents(
        app,
        io_loop=IOLoop.current(),
        db=options.db,
        persistent=True,
        state_save_interval=SAVE_INTERVAL_MS,
        max_workers_in_memory=options.max_workers,
        max_tasks_in_memory=MAX_TASKS,
    )
    return GuardedFlower(app, password, events)


def serve(flower: GuardedFlower, listens: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT, then save the state. Raises OSError if the port is taken.

    ``listens``: called once the port is open.
    """
    flower.start_http_server()
    listens()

    def stop(*_: Any) -> None:
        flower.io_loop.add_callback_from_signal(flower.io_loop.stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    flower.start()
    flower.stop()
    # The remaining threads only wait for the broker.
    os._exit(0)
