"""``graycat flower``: Flower, behind a password."""

from __future__ import annotations

import sys

import click

from graycat import log
from graycat.cli.monitoring import flower_password
from graycat.settings import Settings, variable


@click.command()
def flower() -> None:
    """Show workers and tasks on a page, and pause or drain workers there (docs/monitoring.md)."""
    from graycat.broker.client import check
    from graycat.celeryapp import create_celery
    from graycat.flower import app as flowerapp

    settings = Settings.from_env()
    check(settings)
    app = create_celery(settings)
    app.set_default()
    secret = flower_password(settings)
    log.setup(settings, secret)
    served = flowerapp.create(app, settings, secret)
    click.echo(f"flower listens on http://{settings.flower_host}:{settings.flower_port}, user {flowerapp.USER}")
    try:
        flowerapp.serve(served)
    except OSError as error:
        name = variable("flower_port")
        click.echo(f"graycat: flower cannot listen, choose another port with {name}=... ({error.strerror})", err=True)
        sys.exit(2)
