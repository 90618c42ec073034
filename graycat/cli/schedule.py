"""``graycat schedule``: batches that a server submits by the clock."""

from __future__ import annotations

import json
from typing import Any

import click

from graycat.cli import batchfile
from graycat.cli.server import json_option, with_client
from graycat.cli.text import format_table, format_time, say
from graycat.client import Client
from graycat.schedules.definition import OVERLAPS
from graycat.schedules.due import MISSED_POLICIES

COLUMNS = ("NAME", "CRON", "ZONE", "NEXT", "STATE", "SOURCE")
#: Fields that ``show`` prints, in this order, if they have a value.
SHOWN_FIELDS = ("name", "cron", "timezone", "missed", "overlap", "jitter_s", "window", "max_gpus", "source", "next")


@click.group()
def schedule() -> None:
    """Have the server submit batches by the clock.

    The server, the API token and the exit codes are those of "graycat task".
    """


def _pretty_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


@schedule.command()
@click.argument("name")
@click.argument("cron")
@click.option("--spec", "spec_file", required=True, metavar="FILE|-",
              help="The batch, a file as for graycat batch submit.")  # fmt: skip
@click.option(
    "--timezone", metavar="ZONE", help="Time zone of the cron expression, such as Europe/Berlin; default UTC."
)
@click.option(
    "--missed", type=click.Choice(MISSED_POLICIES), help="What happens with times at which no beat was running."
)
@click.option("--overlap", type=click.Choice(OVERLAPS), help="What happens if the last batch has not ended yet.")
@click.option(
    "--jitter", "jitter_s", type=click.IntRange(0), metavar="SECONDS", help="Start up to this much later, at random."
)
@click.option("--window", metavar="HH:MM-HH:MM", help="Hours in which the batches run.")
@click.option("--max-gpus", type=click.IntRange(1), help="How many GPUs the batches use at once.")
@click.option("--replace", is_flag=True, help="Replace a schedule of the same name.")
@json_option
@with_client
def add(client: Client, name: str, cron: str, spec_file: str, replace: bool, as_json: bool, **options: Any) -> None:
    """Add a schedule, such as: nightly "0 1 * * *" --spec portraits.toml."""
    body = {field: value for field, value in options.items() if value is not None}
    body["cron"] = cron
    body["spec"] = batchfile.load_spec(spec_file)
    added = client.schedules.put(name, body, replace=replace)
    if as_json:
        say(_pretty_json(added))
    else:
        say(f"{added['name']}: next {added['next']}")


@schedule.command("list")
@json_option
@with_client
def list_schedules(client: Client, as_json: bool) -> None:
    """List your schedules; with --json, one schedule a line."""
    rows = client.schedules.all()
    if as_json:
        for row in rows:
            say(json.dumps(row))
        return
    say(format_table(COLUMNS, map(_format_cells, rows)))


def _format_cells(row: dict[str, Any]) -> tuple[str, ...]:
    if row["paused"]:
        state = "paused"
    elif row["waiting"]:
        state = f"{row['waiting']} waiting"
    else:
        state = "on"
    return row["name"], row["cron"], row["timezone"], row["next"] or "-", state, row["source"]


@schedule.command()
@click.argument("name")
@json_option
@with_client
def show(client: Client, name: str, as_json: bool) -> None:
    """Show a schedule, and the outcomes of its last times."""
    view = client.schedules.get(name)
    if as_json:
        say(_pretty_json(view))
        return
    for field in SHOWN_FIELDS:
        if view.get(field) not in (None, ""):
            say(f"{field + ':':11}{view[field]}")
    for fire in view["fires"]:
        words = [format_time(fire["time"] * 1000), fire["outcome"], fire.get("batch"), fire.get("reason")]
        say(" ".join(filter(None, words)))


@schedule.command("next")
@click.argument("name")
@click.option("-n", "--count", type=click.IntRange(1, 100), default=5, show_default=True, help="How many times.")
@json_option
@with_client
def next_times(client: Client, name: str, count: int, as_json: bool) -> None:
    """Print the next times, in the schedule's time zone."""
    for row in client.schedules.next(name, count):
        if as_json:
            say(json.dumps(row))
        elif row["starts"] == row["time"]:
            say(row["time"])
        else:
            say(f"{row['time']}  (starts {row['starts']})")


@schedule.command()
@click.argument("name")
@with_client
def pause(client: Client, name: str) -> None:
    """Pause a schedule: it submits nothing until it is resumed. Its batches go on."""
    client.schedules.pause(name)
    say(f"{name}: paused")


@schedule.command()
@click.argument("name")
@with_client
def resume(client: Client, name: str) -> None:
    """Resume a paused schedule. The times that passed meanwhile are skipped."""
    say(f"{name}: next {client.schedules.resume(name)['next']}")


@schedule.command()
@click.argument("name")
@with_client
def remove(client: Client, name: str) -> None:
    """Remove a schedule; its batches go on."""
    client.schedules.remove(name)
    say(f"{name}: removed")


@schedule.command("run-now")
@click.argument("name")
@click.option("--key", help="The same key again is the same batch.")
@with_client
def run_now(client: Client, name: str, key: str | None) -> None:
    """Submit a schedule's batch now; print the batch's id."""
    say(client.schedules.run_now(name, key))
