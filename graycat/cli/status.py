"""``graycat status``: are games served, and if not, what keeps them; one screen, or JSON for scripts."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlsplit

import click

from graycat.cli import statusview
from graycat.cli.task import LOOPBACK, address, exit_codes, secret
from graycat.client import Client, Unreachable
from graycat.metrics.server import token_file
from graycat.settings import Settings

#: What it exits with where nobody serves games; 0: somebody does.
NOT_SERVED = 1
#: To the begin of the screen, and clear it.
ANEW = "\x1b[H\x1b[J"


@click.command()
@click.option("--url", help="The server's address; default that of the settings (HOST, PORT).")
@click.option("--token", help="GRAYCAT_METRICS_TOKEN's value, or an API token with scope metrics or admin; others on "
              "this machine can see it here.")  # fmt: skip
@click.option("--watch", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option("--every", type=click.FloatRange(0.2), default=2.0, show_default=True, metavar="SECONDS",
              help="Between two looks of --watch.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print what the server tells, as JSON on one line.")
def status(url: str | None, token: str | None, watch: bool, every: float, as_json: bool) -> None:
    """Show queues, workers, engines, GPUs and the last errors of a graycat.

    \b
    Exit codes:
      0    games are served
      1    they are not: a queue that is needed has no worker, or the broker is away
      2    the command line is wrong
      3    the server cannot be reached
      4    the server refused the token
      130  interrupted
    """
    with exit_codes():
        settings = Settings.from_env()
        url = (url or address(settings)).rstrip("/")
        with Client(url, token or token_for(settings, url), patience_s=0.0) as client:
            while watch:
                click.echo(_look(client, as_json=as_json, anew=not as_json))
                time.sleep(every)
            told = client.status()
    click.echo(_written(told, url, as_json=as_json))
    raise click.exceptions.Exit(0 if told.get("served") else NOT_SERVED)


def token_for(settings: Settings, url: str) -> str:
    """Return what opens a server's status: the token of the settings, the one kept here, or else an API token."""
    if settings.metrics_token:
        return settings.metrics_token
    kept = token_file(settings)
    if kept.is_file() and (url == address(settings) or urlsplit(url).hostname in LOOPBACK):
        return kept.read_text().strip()
    return secret(settings, url)


def _look(client: Client, *, as_json: bool, anew: bool) -> str:
    """Return what there is to see now; a server that is away may come back."""
    try:
        text = _written(client.status(), client.url, as_json=as_json)
    except Unreachable as error:
        text = json.dumps({"served": False, "reason": str(error)}) if as_json else str(error)
    return (ANEW if anew else "") + text


def _written(told: dict[str, Any], url: str, *, as_json: bool) -> str:
    return json.dumps(told) if as_json else statusview.screen(told, url)
