"""Flower as graycat runs it: nothing of it is open, and nothing in it runs a task.

Flower leaves /metrics and /healthcheck to everybody, and its API runs and revokes any task. Here each request needs the
password, and of what changes something only that is left which a worker may be told: pause, resume, drain.
"""

from __future__ import annotations

import hmac
import logging
import os
import re
import signal
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

from celery import Celery
from celery.events import EventReceiver
from flower.api.control import ControlHandler
from flower.app import Flower
from flower.events import Events
from flower.options import options
from flower.urls import settings as flower_settings
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.ioloop import IOLoop
from tornado.web import HTTPError, OutputTransform, RequestHandler, StaticFileHandler, authenticated

from graycat.settings import Settings

logger = logging.getLogger(__name__)

USER = "graycat"
#: Tasks that it remembers, and milliseconds between two times that it writes them down: a second's work for 50,000.
MAX_TASKS, SAVE_EVERY_MS = 10_000, 60_000
#: Seconds that a worker gets to answer.
ANSWER_S = 3.0
#: Seconds between two tries to hear the workers again; Flower's own doubles them for ever.
RECONNECT_S = 1.0
#: What may be posted: the changes that are left, and a question that is too long for an address.
POSTS = re.compile(r"/api/worker/(shutdown|pause|resume|drain)/.+|/tasks/datatable")
SCRIPT = b'<script src="/graycat/flower.js"></script></body>'
STATIC = Path(__file__).parent / "static"


class Tell(ControlHandler):
    """Tells a worker what Flower itself has no word for."""

    def initialize(self, command: str) -> None:
        """Take the control command that the route stands for."""
        self._command = command

    @authenticated
    async def post(self, name: str) -> None:
        """Tell a worker, and answer what it says."""
        if not self.is_worker(name):
            raise HTTPError(404, "there is no worker of this name")
        arguments = {"destination": [name], "reply": True, "timeout": ANSWER_S}
        replies = await self.run_blocking(
            f"worker.{self._command}", name, self.capp.control.broadcast, self._command, **arguments
        )
        if not replies:
            raise HTTPError(504, "the worker does not answer")
        said = next(iter(replies[0].values()))
        if "ok" not in said:
            raise HTTPError(409, str(said.get("error", "the worker cannot be told this")))
        self.write({"message": f"{name} {said['ok']}"})


class Refused(RequestHandler):
    """Answers what is not let in."""

    def initialize(self, status: int) -> None:
        """Take the status to answer."""
        self._status = status

    def check_xsrf_cookie(self) -> None:
        """Check nothing: nothing will be done."""

    async def prepare(self) -> None:
        """Answer, whatever the method."""
        self.set_status(self._status)
        if self._status == 401:
            self.set_header("WWW-Authenticate", 'Basic realm="Flower of graycat"')
        self.finish("Access denied" if self._status == 401 else "graycat's Flower does not do this: tasks have an API")


class WithScript(OutputTransform):
    """Adds our buttons to Flower's pages."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        """Put a script at the end of a page."""
        if finishing and headers.get("Content-Type", "").startswith("text/html") and b"</body>" in chunk:
            chunk = chunk.replace(b"</body>", SCRIPT)
            headers["Content-Length"] = str(len(chunk))
        return status_code, headers, chunk


class PatientEvents(Events):
    """Hears the workers' events again a moment after the broker is back, however long it was away."""

    def run(self) -> None:
        """Hand events on for as long as the process lives."""
        while True:
            try:
                with self.capp.connection() as connection:
                    receiver = EventReceiver(connection, handlers={"*": self.on_event}, app=self.capp)
                    receiver.capture(limit=None, timeout=None, wakeup=True)
            # kombu raises what the transport's library does.
            except Exception as error:  # noqa: BLE001
                logger.warning("flower hears no worker", extra={"reason": type(error).__name__})
            time.sleep(RECONNECT_S)


class GuardedFlower(Flower):
    """Flower behind a password on every path, that changes nothing but its workers' readiness."""

    def __init__(self, app: Celery, secret: str, events: Events) -> None:
        self._credentials = b"Basic " + b64encode(f"{USER}:{secret}".encode())
        super().__init__(options, app, events, transforms=[WithScript], **flower_settings)
        verbs = {"pause": "pause_worker", "resume": "resume_worker", "drain": "drain_worker"}
        routes: list[Any] = [
            (rf"/api/worker/{verb}/(.+)", Tell, {"command": command}) for verb, command in verbs.items()
        ]
        self.add_handlers(".*", [*routes, (r"/graycat/(flower\.js)", StaticFileHandler, {"path": str(STATIC)})])

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """Return what answers a request: Flower, where it is let in."""
        given = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, self._credentials):
            return self.get_handler_delegate(request, Refused, {"status": 401})
        if request.method not in ("GET", "HEAD") and not POSTS.fullmatch(request.path):
            return self.get_handler_delegate(request, Refused, {"status": 403})
        return super().find_handler(request, **kwargs)


def configure(settings: Settings, secret: str) -> None:
    """Set Flower's options; its own command would take them, and the password, from the command line."""
    folder = settings.home / "flower"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Its file is a pickle: who may write it may run code.
    folder.chmod(0o700)
    values = {
        "address": settings.flower_host,
        "port": settings.flower_port,
        # Its own check too: with it comes the one against requests from other sites.
        "basic_auth": [f"{USER}:{secret}"],
        "persistent": True,
        "db": str(folder / "flower"),
        "state_save_interval": SAVE_EVERY_MS,
        "max_tasks": MAX_TASKS,
    }
    for name, value in values.items():
        setattr(options, name, value)


def create(app: Celery, settings: Settings, secret: str) -> GuardedFlower:
    """Return Flower, not yet started; ``secret`` is its password."""
    configure(settings, secret)
    events = PatientEvents(
        app,
        io_loop=IOLoop.current(),
        db=options.db,
        persistent=True,
        state_save_interval=SAVE_EVERY_MS,
        max_workers_in_memory=options.max_workers,
        max_tasks_in_memory=MAX_TASKS,
    )
    return GuardedFlower(app, secret, events)


def serve(flower: GuardedFlower) -> None:
    """Serve until told to stop; then what it knows is written down. Raises OSError for a port that is taken."""
    flower.start_http_server()

    def stop(*_: Any) -> None:
        flower.io_loop.add_callback_from_signal(flower.io_loop.stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    flower.start()
    flower.stop()
    # Its threads wait for the broker, and for nothing that matters.
    os._exit(0)
