"""The process: ``python -m tests.fakes.comfyui --port N``."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from tests.fakes import comfyui
from tests.fakes.comfyui import file_routes, routes
from tests.fakes.comfyui.executor import work
from tests.fakes.comfyui.options import parser
from tests.fakes.comfyui.server import Server

#: Bodies may be this big before they are looked at; the server's own bound is an option.
MAX_BODY = 512 * 1024 * 1024


def application(server: Server) -> Application:
    """Return all routes; each but those for jobs is there with ``/api`` and without."""
    table = [
        (r"/ws", file_routes.SocketRoute),
        (r"/prompt", routes.PromptRoute),
        (r"/queue", routes.QueueRoute),
        (r"/interrupt", routes.InterruptRoute),
        (r"/free", routes.FreeRoute),
        (r"/history", routes.HistoryRoute),
        (r"/history/([^/]+)", routes.HistoryRoute),
        (r"/view", file_routes.ViewRoute),
        (r"/upload/image", file_routes.UploadRoute),
        (r"/(object_info|models|embeddings|features|system_stats)", routes.ListRoute),
        (r"/(object_info|models)/([^/]+)", routes.ListRoute),
    ]
    with_prefix = [(f"/api{path}", handler) for path, handler in table]
    more = [
        (r"/api/jobs", routes.JobsRoute),
        (r"/api/jobs/cancel", routes.CancelRoute),
        (r"/api/jobs/([^/]+)", routes.JobsRoute),
        (r"/api/jobs/([^/]+)/cancel", routes.CancelRoute),
        (r"/double", routes.DoubleRoute),
        (r".*", routes.Missing),
    ]
    rules = [(path, handler, {"server": server}) for path, handler in table + with_prefix + more]
    return Application(rules, log_function=lambda _: None)


async def main() -> None:
    """Read the options and serve until a signal comes, which ends the process at once."""
    options = parser(comfyui.__doc__).parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, os._exit, 0)
    time.sleep(options.closed)
    server = Server(options)
    sockets = bind_sockets(options.port, options.listen)
    HTTPServer(application(server), max_body_size=MAX_BODY, max_buffer_size=MAX_BODY).add_sockets(sockets)
    host, port = sockets[0].getsockname()[:2]
    print(f"Folders: {server.folders.paths['output'].parent}")  # noqa: T201
    print(f"Starting server\n\nTo see the GUI go to: http://{host}:{port}", flush=True)  # noqa: T201
    await work(server)


if __name__ == "__main__":
    asyncio.run(main())
