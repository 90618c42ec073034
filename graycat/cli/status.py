"""``graycat status``: whether games are served, and if not, why; one screen, or JSON for scripts."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NoReturn

import click

from graycat.cli import statusview
from graycat.cli.running import find_running
from graycat.cli.server import (
    EXIT_UNREACHABLE,
    exit_on_client_error,
    find_api_token,
    is_this_machine,
    print_error,
    server_url,
    url_option,
)
from graycat.cli.statussteps import Step, find_disk_steps, find_steps, format_steps
from graycat.cli.text import say
from graycat.client import Client, Unreachable
from graycat.metrics.server import token_file
from graycat.settings import Settings

#: Exit code if games are not served.
EXIT_NOT_SERVED = 1
#: Terminal codes: go to the start of the screen and clear it.
CLEAR_SCREEN = "\x1b[H\x1b[J"


@click.command()
@url_option
@click.option("--token",
              help="The value of GRAYCAT_METRICS_TOKEN, or an API token with the scope metrics or admin. Other users "
              "of this machine can see it here.")  # fmt: skip
@click.option("--watch", is_flag=True, help="Repeat until Ctrl-C.")
@click.option("--every", type=click.FloatRange(0.2), default=2.0, show_default=True, metavar="SECONDS",
              help="Time between two screens of --watch.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the server's JSON, on one line.")
def status(url: str | None, token: str | None, watch: bool, every: float, as_json: bool) -> None:
    """Show on one screen how a graycat server is doing, and what to do next.

    Its queues, workers, engines, GPUs and last errors. The last lines name each trouble, and a command or a page
    for it.

    \b
    Exit codes:
      0    games are served
      1    games are not served: the first line says why
      2    the command line is wrong
      3    the server cannot be reached
      4    the server refused the token
      130  interrupted
    """
    with exit_on_client_error():
        settings = Settings.from_env()
        url = (url or server_url(settings)).rstrip("/")
        home = None
        if is_this_machine(settings, url):
            home = settings.home
        token = token or _find_token(settings, url, home)
        with Client(url, token, patience_s=0.0) as client:
            while watch:
                _print_once(client, home, as_json=as_json)
                time.sleep(every)
            answer = _ask(client, home)
    say(_format_status(answer, url, home, as_json=as_json))
    if not answer.get("served"):
        raise click.exceptions.Exit(EXIT_NOT_SERVED)


def find_status_token(settings: Settings, url: str) -> str:
    """Return a token for a server's status: that of the settings, the one generated here, or else an API token.

    The generated one is sent to this machine only. Raises click.UsageError if there is none.
    """
    if settings.metrics_token:
        return settings.metrics_token
    generated = token_file(settings)
    if generated.is_file() and is_this_machine(settings, url):
        return generated.read_text().strip()
    return find_api_token(settings, url)


def _ask(client: Client, home: Path | None) -> dict[str, Any]:
    """Return the server's status. Raises Unreachable, after it has said how to start a server on this machine."""
    try:
        return client.status()
    except Unreachable as error:
        if home is None or find_running(home) is not None:
            raise
        _exit_not_running(str(error))


def _find_token(settings: Settings, url: str, home: Path | None) -> str:
    """Return a token. Raises click.UsageError if there is none for a server that may run."""
    try:
        return find_status_token(settings, url)
    except click.UsageError:
        if home is None or home.exists():
            raise
        _exit_not_running(f"there is no {home}")


def _exit_not_running(reason: str) -> NoReturn:
    """Say how to start a server on this machine, and end."""
    print_error(reason)
    say(format_steps([Step("No graycat runs here. Start it:", "graycat up")]), err=True)
    raise click.exceptions.Exit(EXIT_UNREACHABLE)


def _print_once(client: Client, home: Path | None, *, as_json: bool) -> None:
    """Print the status now. A server that cannot be reached is shown as such: it may come back."""
    try:
        text = _format_status(client.status(), client.url, home, as_json=as_json)
    except Unreachable as error:
        text = str(error)
        if as_json:
            text = json.dumps({"served": False, "reason": text})
    if not as_json:
        text = CLEAR_SCREEN + text
    say(text)


def _format_status(answer: dict[str, Any], url: str, home: Path | None, *, as_json: bool) -> str:
    """Return the status as JSON, or as a screen that ends with what to do; ``home``: if it is that of the server."""
    if as_json:
        return json.dumps(answer)
    steps = find_steps(answer)
    if home is not None:
        steps += find_disk_steps(home)
    return f"{statusview.format_screen(answer, url)}\n\n{format_steps(steps)}"
