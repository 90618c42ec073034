"""``graycat worker``: a Celery worker for one kind of work."""

from __future__ import annotations

import socket
import sys
import warnings

import click
from celery.exceptions import SecurityWarning

from graycat.settings import Settings

#: Queues of each kind of worker; their order is their priority.
QUEUES = {"llm": "llm,llm.batch", "quick": "llm.quick", "sd": "sd,sd.batch", "control": "control"}
#: Threads of workers without an engine; those with one have as many tasks at once as that has slots.
THREADS = {"control": 16}


@click.command()
@click.argument("kind", type=click.Choice(sorted(QUEUES)))
@click.option("--name", help="Name in the fleet; default KIND@HOST.")
def worker(kind: str, name: str | None) -> None:
    """Run a worker: llm owns the text engine; quick answers beside it what needs no slot; sd owns the image engine;
    control tells webhooks, and needs no GPU.
    """
    from graycat.celeryapp import create_celery

    app = create_celery(Settings.from_env())
    app.set_default()
    arguments = ["--quiet", "worker", "--queues", QUEUES[kind], "--hostname", name or f"{kind}@{socket.gethostname()}"]
    # Workers need not know of each other; the records hold what they share.
    arguments += ["--without-gossip", "--without-mingle", "--loglevel", "INFO"]
    if kind in THREADS:
        arguments += ["--concurrency", str(THREADS[kind])]
    # Celery warns root of pickled messages; here only JSON is accepted.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    sys.exit(app.worker_main(arguments))
