"""``graycat flower``: Flower, behind a password."""

from __future__ import annotations

import sys

import click

from graycat import log
from graycat.cli.monitoring import flower_password
from graycat.cli.text import say
from graycat.loops import readiness
from graycat.settings import Settings, variable
from graycat.settings.home import tighten_home


@click.command()
def flower() -> None:
    """Serve Flower, a page of workers and tasks.

    It can pause and drain workers. Its address is http://127.0.0.1:5555 (GRAYCAT_FLOWER_HOST, FLOWER_PORT), its user
    is graycat, its password is in GRAYCAT_HOME/flower-password. docs/monitoring.md says more.
    """
    from graycat.broker.client import check
    from graycat.celeryapp import create_celery
    from graycat.flower import app as flowerapp

    settings = Settings.from_env()
    check(settings)
    tighten_home(settings.home)
    app = create_celery(settings)
    app.set_default()
    password = flower_password(settings)
    log.setup(settings, password)
    server = flowerapp.create(app, settings, password)
    try:
        flowerapp.serve(server, lambda: greet(settings))
    except OSError as error:
        name = variable("flower_port")
        say(f"graycat: flower cannot listen, choose another port with {name}=... ({error.strerror})", err=True)
        sys.exit(2)


def greet(settings: Settings) -> None:
    """Say where Flower listens."""
    from graycat.flower.app import USER

    address = f"http://{settings.flower_host}:{settings.flower_port}, user {USER}"
    if not readiness.tell_ready(address):
        say(f"flower listens on {address}")
