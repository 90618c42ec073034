"""``graycat batch``: batches of images, from a terminal or from cron."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import click

from graycat.batches.errors import OutputUnavailable
from graycat.batches.states import ITEM_STATES
from graycat.cli import batchfile, batchview
from graycat.cli.server import EXIT_FAILED, json_option, print_error, with_client
from graycat.cli.text import say
from graycat.cli.tokens import Lifetime
from graycat.client import Batch, Client

_ID = click.argument("batch_id", metavar="ID")
quiet_option = click.option("--quiet", is_flag=True, help="Print nothing but errors.")


@click.group()
def batch() -> None:
    """Make many images while no other work waits.

    Each image is made once, and a manifest says how to make it again. The server and the API token are found as
    'graycat task' finds them. The commands suit cron: they print ids to
    standard output and all else to standard error, and with --key a command that runs several times is one batch.

    \b
    Exit codes:
      0    done; with --wait, watch and export: the batch succeeded
      1    the batch failed, or was cancelled
      2    the command line or the spec's file is wrong
      3    the server cannot be reached, or has no capacity: try again later
      4    the server refused the spec or the request; the message says why
      130  interrupted; the batch goes on
    """


@batch.command()
@click.argument("file", metavar="FILE|-")
@click.option("--key", metavar="KEY", help="The same key and spec again are the same batch.")
@click.option("--set", "assignments", metavar="KEY=VALUE", multiple=True,
              help="Set a field of 'defaults'; may be repeated.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print what would be made and how long it would take; make nothing.")
@click.option("--wait", is_flag=True, help="Wait until the batch has ended.")
@quiet_option
@json_option
@with_client
def submit(
    client: Client,
    file: str,
    key: str | None,
    assignments: tuple[str, ...],
    dry_run: bool,
    wait: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Submit the batch that FILE describes; print its id.

    FILE is .toml, .yaml or .json; - is standard input. docs/batches.md has its fields. Its 'items' may be the name
    of a .csv, .tsv, .jsonl or .txt file in the same folder.
    """
    spec = batchfile.load_spec(file, assignments)
    if dry_run:
        _print_forecast(client, spec, as_json=as_json)
        return
    submitted = client.batches.submit(spec, key or uuid4().hex)
    if wait:
        _follow(submitted, quiet=quiet)
    if as_json:
        say(json.dumps(submitted.raw))
    elif not quiet:
        say(submitted.id)
    if wait:
        _exit_by_state(submitted)


def _print_forecast(client: Client, spec: dict[str, Any], *, as_json: bool) -> None:
    forecast = client.batches.forecast(spec)
    if as_json:
        say(json.dumps(forecast))
        return
    for line in batchview.format_forecast(forecast):
        say(line)


@batch.command("list")
@click.option(
    "--state",
    "states",
    multiple=True,
    metavar="STATE",
    help="Only batches in this state: queued, running, paused, succeeded, failed or cancelled; may be repeated.",
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first.")
@json_option
@with_client
def list_batches(client: Client, states: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List your batches, newest first. With --json: one batch a line."""
    printed = 0
    for listed in client.batches.all():
        if states and listed.state not in states:
            continue
        if as_json:
            say(json.dumps(listed.raw))
        else:
            say(batchview.format_row(listed.raw))
        printed += 1
        if printed == limit:
            break


@batch.command()
@_ID
@click.option("--items", is_flag=True, help="List the batch's items too.")
@click.option("--state", type=click.Choice(ITEM_STATES), help="List the items in this state.")
@json_option
@with_client
def show(client: Client, batch_id: str, items: bool, state: str | None, as_json: bool) -> None:
    """Show a batch's state and progress.

    With --items or --state, list its items too, each with the values that differ among them.
    """
    shown = client.batches.get(batch_id)
    with_items = items or state is not None
    rows = []
    if with_items:
        rows = list(shown.items(state or ""))

    if not as_json:
        say(batchview.describe(shown.raw))
        for row in rows:
            say(batchview.format_item(row))
    elif with_items:
        say(json.dumps(shown.raw | {"item_list": rows}))
    else:
        say(json.dumps(shown.raw))


@batch.command()
@_ID
@quiet_option
@json_option
@with_client
def watch(client: Client, batch_id: str, quiet: bool, as_json: bool) -> None:
    """Follow a batch to its end."""
    watched = client.batches.get(batch_id)
    _follow(watched, quiet=quiet)
    if as_json:
        say(json.dumps(watched.raw))
    elif not quiet:
        say(batchview.describe(watched.raw))
    _exit_by_state(watched)


def _follow(followed: Batch, *, quiet: bool) -> None:
    meter = batchview.ProgressMeter(sys.stderr)
    try:
        if quiet:
            followed.wait()
        else:
            followed.wait(meter.show)
    except KeyboardInterrupt:
        print_error(f"follow the batch again with: graycat batch watch {followed.id}")
        raise
    finally:
        meter.clear()


def _exit_by_state(ended: Batch) -> None:
    """Exit with an error if a batch has not succeeded."""
    if ended.state == "succeeded":
        return
    verb = ended.state
    if verb == "cancelled":
        verb = "been cancelled"
    reason = ""
    if ended.raw.get("reason"):
        reason = f": {ended.raw['reason']}"
    print_error(f"the batch {ended.id} has {verb}{reason}")
    raise click.exceptions.Exit(EXIT_FAILED)


def _add_verb(name: str, change: Callable[[Batch], Batch], help_text: str) -> None:
    """Add a command that changes the state of a batch."""

    @batch.command(name, help=help_text)
    @_ID
    @quiet_option
    @json_option
    @with_client
    def command(client: Client, batch_id: str, quiet: bool, as_json: bool) -> None:
        changed = change(client.batches.get(batch_id))
        if as_json:
            say(json.dumps(changed.raw))
        elif not quiet:
            say(f"{changed.id} {changed.state}: {batchview.format_counts(changed.raw)}")


_add_verb("pause", Batch.pause, "Pause a batch: it starts no more items. The image that is rendered now is finished.")
_add_verb("resume", Batch.resume, "Resume a batch. If it has ended, make the images that are missing or damaged.")
_add_verb("cancel", Batch.cancel, "Cancel a batch; the images that it has made stay.")
_add_verb("retry-failed", Batch.retry_failed, "Make the failed items of a batch once more.")


@batch.command()
@_ID
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@quiet_option
@with_client
def export(client: Client, batch_id: str, folder: Path, quiet: bool) -> None:
    """Write a batch's images to FOLDER.

    It gets what is made so far, manifest.jsonl and a page to look at them. Images that it has are not fetched again.
    """
    # A command that submits is not to load images' libraries.
    from graycat.batches.gallery import export as exporting

    exported = client.batches.get(batch_id)
    try:
        fetched, total = exported.export(folder)
        exporting.write_local_gallery(folder, exported.raw, list(exported.items()))
    except (OSError, OutputUnavailable) as error:
        raise click.UsageError(f"{folder}: {error}") from None
    if not quiet:
        say(f"{total} images in {folder}, {fetched} of them new")


@batch.command()
@_ID
@click.option("--ttl", "ttl_s", type=Lifetime(), default="7d", show_default=True,
              help="How long the link works: 12h, 30d.")  # fmt: skip
@with_client
def gallery(client: Client, batch_id: str, ttl_s: int) -> None:
    """Print a link to the page of a batch. Whoever has the link sees the images, without an API token."""
    say(client.batches.get(batch_id).gallery(ttl_s))
