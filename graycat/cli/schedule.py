"""``graycat schedule``: batches by the clock, on a server."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click

from graycat.cli import batchfile
from graycat.cli.task import as_json, calls_a_server
from graycat.client import Client
from graycat.schedules.definition import OVERLAPS
from graycat.schedules.due import MISSED

COLUMNS = ("NAME", "CRON", "ZONE", "NEXT", "STATE", "SOURCE")


@click.group()
def schedule() -> None:
    """Have batches submitted by the clock.

    The server, the API token and the exit codes are those of "graycat task".
    """


def dumped(value: Any) -> str:
    """Return a value as JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False)


@schedule.command()
@click.argument("name")
@click.argument("cron")
@click.option("--spec", "spec_file", required=True, metavar="FILE|-",
              help="The batch, as graycat batch submit takes it.")  # fmt: skip
@click.option("--timezone", metavar="ZONE", help="Zone of the cron expression, as Europe/Berlin; default UTC.")
@click.option("--missed", type=click.Choice(MISSED), help="What becomes of times that nobody was there to fire.")
@click.option("--overlap", type=click.Choice(OVERLAPS), help="What happens while the last batch is not over.")
@click.option("--jitter", "jitter_s", type=click.IntRange(0), metavar="SECONDS", help="Start up to so much later.")
@click.option("--window", metavar="HH:MM-HH:MM", help="Hours in which its batches run.")
@click.option("--max-gpus", type=click.IntRange(1), help="GPUs that its batches use at once.")
@click.option("--replace", is_flag=True, help="Replace the schedule that has the name.")
@as_json
@calls_a_server
def add(client: Client, name: str, cron: str, spec_file: str, replace: bool, as_json: bool, **options: Any) -> None:
    """Add a schedule, such as: nightly "0 1 * * *" --spec portraits.toml."""
    body = {field: value for field, value in options.items() if value is not None}
    view = client.schedules.put(name, body | {"cron": cron, "spec": batchfile.read(spec_file)}, replace=replace)
    click.echo(dumped(view) if as_json else f"{view['name']}: next {view['next']}")


@schedule.command("list")
@as_json
@calls_a_server
def list_schedules(client: Client, as_json: bool) -> None:
    """List your schedules; with --json, a line a schedule."""
    rows = client.schedules.all()
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    cells = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(COLUMNS))]
    for line in cells:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    state = "paused" if row["paused"] else f"{row['waiting']} waiting" if row["waiting"] else "on"
    return row["name"], row["cron"], row["timezone"], row["next"] or "-", state, row["source"]


@schedule.command()
@click.argument("name")
@as_json
@calls_a_server
def show(client: Client, name: str, as_json: bool) -> None:
    """Show a schedule, and how its last times went."""
    view = client.schedules.get(name)
    if as_json:
        click.echo(dumped(view))
        return
    for field in ("name", "cron", "timezone", "missed", "overlap", "jitter_s", "window", "max_gpus", "source", "next"):
        if view.get(field) not in (None, ""):
            click.echo(f"{field + ':':11}{view[field]}")
    for fire in view["fires"]:
        at = datetime.fromtimestamp(fire["time"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        click.echo(" ".join(filter(None, (at, fire["outcome"], fire.get("batch", ""), fire.get("reason", "")))))


@schedule.command("next")
@click.argument("name")
@click.option("-n", "--count", type=click.IntRange(1, 100), default=5, show_default=True, help="How many times.")
@as_json
@calls_a_server
def coming(client: Client, name: str, count: int, as_json: bool) -> None:
    """Print the coming times, in the schedule's zone."""
    for row in client.schedules.next(name, count):
        late = "" if row["starts"] == row["time"] else f"  (starts {row['starts']})"
        click.echo(json.dumps(row) if as_json else row["time"] + late)


@schedule.command()
@click.argument("name")
@calls_a_server
def pause(client: Client, name: str) -> None:
    """Have a schedule fire nothing until it is resumed; its batches go on."""
    client.schedules.pause(name)
    click.echo(f"{name}: paused")


@schedule.command()
@click.argument("name")
@calls_a_server
def resume(client: Client, name: str) -> None:
    """Have a paused schedule fire again; times that came meanwhile are left out."""
    click.echo(f"{name}: next {client.schedules.resume(name)['next']}")


@schedule.command()
@click.argument("name")
@calls_a_server
def remove(client: Client, name: str) -> None:
    """Remove a schedule; its batches go on."""
    client.schedules.remove(name)
    click.echo(f"{name}: removed")


@schedule.command("run-now")
@click.argument("name")
@click.option("--key", help="The same key again is the same batch.")
@calls_a_server
def run_now(client: Client, name: str, key: str | None) -> None:
    """Submit a schedule's batch now; print the batch's id."""
    click.echo(client.schedules.run_now(name, key))
