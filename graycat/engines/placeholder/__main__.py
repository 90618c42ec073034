"""The process: ``python -m graycat.engines.placeholder --port N``."""

from __future__ import annotations

import os
import signal
import socket
import sys

import click
import gevent
from flask import Flask
from gevent.pywsgi import WSGIHandler, WSGIServer

from graycat.engines.placeholder import catalog
from graycat.engines.placeholder.app import create_app
from graycat.engines.placeholder.draw import LABEL
from graycat.engines.placeholder.renderer import Renderer

HOST = "127.0.0.1"
#: The number of connections that may wait to be accepted.
BACKLOG = 1024


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--step-s", type=click.FloatRange(min=0), default=0.02, show_default=True, help="Seconds a step takes.")
def main(port: int, step_s: float) -> None:
    """Serve the placeholder renderer on 127.0.0.1 until a signal comes."""
    click.echo(f"model: {catalog.NAME}. {LABEL}: it draws a simple picture that depends on prompt and seed")
    serve(create_app(Renderer(step_s)), port)


def serve(app: Flask, port: int, handler_class: type[WSGIHandler] = WSGIHandler, host: str = HOST) -> None:
    """Serve an application until SIGTERM or SIGINT ends the process. ``port``: 0 for any free one."""
    # The process ends at once: a worker that stops it does not wait for a picture.
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, os._exit, 0)
    server = WSGIServer((host, port), app, backlog=BACKLOG, log=None, handler_class=handler_class)
    server.start()
    # Accepted connections inherit this option. Headers and body are sent separately, and without it the body would wait
    # for the acknowledgement of the headers.
    server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    click.echo(f"model: {catalog.NAME} ready at http://{host}:{server.server_port}")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
