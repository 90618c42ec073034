"""``graycat scale-hint``: how many workers each family would need now, for scripts that start and stop machines."""

from __future__ import annotations

import json
from typing import Any

import click

from graycat.cli.server import exit_on_client_error, print_error, server_url, url_option
from graycat.cli.status import find_status_token
from graycat.cli.text import format_table, say
from graycat.client import Client
from graycat.families import BY_NAME
from graycat.settings import Settings

#: Exit code if the number is not known.
EXIT_UNKNOWN = 1
COLUMNS = ("FAMILY", "HINT", "NEEDED", "SERVING", "STARTING", "WAITING", "RUNNING", "BATCH", "SECONDS")
FIELDS = ("hint", "need", "serving", "starting", "waiting", "running", "batch_left", "task_s")


@click.command(name="scale-hint")
@click.argument("family", required=False, type=click.Choice(list(BY_NAME)))
@url_option
@click.option("--token",
              help="The value of GRAYCAT_METRICS_TOKEN, or an API token with the scope metrics or admin. Other users "
              "of this machine can see it here.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON, on one line.")
def scale_hint(family: str | None, url: str | None, token: str | None, as_json: bool) -> None:
    """Show how many workers each family of engines should have now.

    With llm or sd: print the number of that family and nothing else, for scripts. If the number is not known,
    nothing is printed on standard output: leave the workers as they are.

    \b
    Exit codes:
      0    the number is known
      1    it is not known now: the broker does not answer, or has unreadable keys
      2    the command line is wrong
      3    the server cannot be reached
      4    the server refused the token
      130  interrupted
    """
    with exit_on_client_error():
        settings = Settings.from_env()
        url = (url or server_url(settings)).rstrip("/")
        with Client(url, token or find_status_token(settings, url), patience_s=0.0) as client:
            status = client.status()
    scale = _find_scale(status, family)
    if as_json:
        say(json.dumps(scale[family] if family else scale))
    elif family:
        say(str(scale[family]["hint"]))
    else:
        say(format_table(COLUMNS, [[name, *(str(row[field]) for field in FIELDS)] for name, row in scale.items()]))


def _find_scale(status: dict[str, Any], family: str | None) -> dict[str, dict[str, Any]]:
    """Return the hints of a server's status. Exits where they are not known."""
    scale: Any = status.get("scale") or {}
    reason = "the server is of an older release"
    if not isinstance(scale, dict) or not all(map(_is_row, scale.values())):
        reason = "the server answers something else than a graycat of this release"
    elif family in scale or (family is None and scale):
        return scale
    elif "scale" in status:
        reason = "keys in the broker cannot be read, see graycat status"
        if not status.get("broker"):
            reason = str(status.get("reason"))
    print_error(f"how many workers are needed is not known: {reason}")
    raise click.exceptions.Exit(EXIT_UNKNOWN)


def _is_row(row: Any) -> bool:
    """Return whether a server's row of a family has numbers: scripts start that many machines."""
    if not isinstance(row, dict):
        return False
    numbers: list[Any] = [row.get(field) for field in FIELDS]
    return all(type(number) in (int, float) and number >= 0 for number in numbers) and type(row["hint"]) is int
