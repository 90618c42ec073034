"""A Stable Diffusion WebUI without a GPU: the placeholder renderer with the manners of others, and with faults.

Run as ``python -m tests.fakes.webui --port N``. Like all of them it goes on rendering for clients that left.
"""

from __future__ import annotations

import argparse
import base64
import socket
import time
from typing import Any

from flask import Flask, request
from gevent.event import Event
from gevent.lock import BoundedSemaphore
from gevent.pywsgi import WSGIHandler
from werkzeug.exceptions import NotFound

from graycat.engines.placeholder.__main__ import serve
from graycat.engines.placeholder.app import PREFIX
from graycat.engines.placeholder.errors import HTTPException, OutOfMemoryError
from graycat.engines.placeholder.renderer import Body, Renderer
from tests.fakes.webui_personalities import PERSONALITIES

#: These come from a bundled extension, outside the core's authentication.
UNAUTHENTICATED = (f"{PREFIX}/loras", f"{PREFIX}/refresh-loras")
#: How the line of a generation begins; its prompt follows.
ASKED = "asked for:"
OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 20.00 GiB"


class Handler(WSGIHandler):
    """Hands the connection to the application, which may have to break it."""

    def get_environ(self) -> dict[str, Any]:
        """Add the socket."""
        environ: dict[str, Any] = super().get_environ()
        return environ | {"fake.socket": self.socket}


class FailingRenderer(Renderer):
    """Prints a line a generation, and fails some. ``fail``: "oom", "hang" or "drop"; None for none.

    ``fails``: the generations that do, counted from the first; None for all.
    """

    def __init__(self, step_s: float, fail: str | None, fails: int | None = None) -> None:
        super().__init__(step_s)
        self.fail = fail
        self.fails = fails
        self.asked = 0

    def generate(self, job: str, fields: Body) -> Body:
        """Begin, then fail; a hanging one keeps the lock for ever and heeds no interrupt."""
        self.asked += 1
        print(f"{ASKED} {fields['prompt']}", flush=True)  # noqa: T201 (whoever counts renders reads the log)
        if self.fail is None or (self.fails is not None and self.asked > self.fails):
            return super().generate(job, fields)
        with self.jobs.run(job):
            self.jobs.prepare()
            if self.fail == "hang":
                Event().wait()
            elif self.fail == "drop":
                request.environ["fake.socket"].shutdown(socket.SHUT_RDWR)
            raise OutOfMemoryError(OUT_OF_MEMORY)


def require(app: Flask, credentials: str) -> None:
    """Have the core routes ask for ``user:password``; other routes stay open, as upstream."""

    @app.before_request
    def authenticate() -> None:
        core = request.path.startswith(PREFIX) and request.path not in UNAUTHENTICATED
        if request.routing_exception is not None or not core:
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            raise HTTPException(401, "Not authenticated")
        try:
            known = base64.b64decode(given).decode() == credentials
        except ValueError:
            raise HTTPException(401, "Invalid authentication credentials") from None
        if not known:
            raise HTTPException(401, "Incorrect username or password")


def hide(app: Flask, seconds: float) -> None:
    """Have every route answer 404 for a while: the port opens before the routes are there."""
    ready_at = time.monotonic() + seconds

    @app.before_request
    def refuse() -> None:
        if time.monotonic() < ready_at:
            raise NotFound


def one_at_a_time(app: Flask) -> None:
    """Have every request wait for the one before it, so that nothing is answered during a render."""
    turn = BoundedSemaphore()

    @app.before_request
    def take() -> None:
        turn.acquire()

    @app.teardown_request
    def give(_: object) -> None:
        turn.release()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--personality", choices=PERSONALITIES, default="a1111")
    parser.add_argument("--fail", choices=["oom", "hang", "drop"], help="how every generation fails")
    parser.add_argument("--fails", type=int, help="how many of the first generations fail; all by default")
    parser.add_argument("--auth", metavar="USER:PASS", help="ask for it, as --api-auth does")
    parser.add_argument("--loading", type=float, default=0.0, help="seconds of 404 after the port opened")
    parser.add_argument("--closed", type=float, default=0.0, help="seconds before the port opens")
    parser.add_argument("--single", action="store_true", help="answer nothing during a render")
    parser.add_argument("--step-s", type=float, default=0.02)
    options = parser.parse_args()
    # sd-server loads its model before it listens.
    before_port = options.personality == "sd-server"
    time.sleep(options.closed + (options.loading if before_port else 0))
    app = PERSONALITIES[options.personality](FailingRenderer(options.step_s, options.fail, options.fails))
    if options.loading and not before_port:
        hide(app, options.loading)
    if options.single:
        one_at_a_time(app)
    if options.auth:
        require(app, options.auth)
    serve(app, options.port, Handler, options.host)


if __name__ == "__main__":
    main()
