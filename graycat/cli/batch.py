"""``graycat batch``: batches of images, from a terminal or from cron."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import click

from graycat.batches.errors import OutputUnavailable
from graycat.batches.gallery import export as exporting
from graycat.batches.states import ITEM_STATES
from graycat.cli import batchfile, batchview
from graycat.cli.task import FAILED, as_json, calls_a_server
from graycat.cli.tokens import Lifetime
from graycat.client import Batch, Client

_ID = click.argument("batch_id", metavar="ID")
quiet = click.option("--quiet", is_flag=True, help="Print nothing but errors.")


@click.group()
def batch() -> None:
    """Make many images in the gaps of other work: each once, with a manifest to make them again.

    The server and the API token are found as 'graycat task' finds them. Fit for cron: ids on stdout, all else on
    stderr, and with --key the same batch however often a line runs.

    \b
    Exit codes:
      0    done; with --wait, watch and export: the batch succeeded
      1    the batch failed, or was cancelled
      2    the command line or the spec's file is wrong
      3    the server cannot be reached, or has no room: try later
      4    the server refused the spec or the request, and says why
      130  interrupted; the batch goes on
    """


@batch.command()
@click.argument("file", metavar="FILE|-")
@click.option("--key", metavar="KEY", help="The same key and spec again are the same batch.")
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="A field of 'defaults'; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Print what would be made and how long it would take; make nothing.")
@click.option("--wait", is_flag=True, help="Wait for its end.")
@quiet
@as_json
@calls_a_server
def submit(client: Client, file: str, key: str | None, settings: tuple[str, ...], **options: Any) -> None:
    """Submit the batch that FILE (.toml, .yaml, .json) describes; print its id.

    Its 'items' may name a .csv, .jsonl or .txt file beside it.
    """
    document = batchfile.read(file, settings)
    if options["dry_run"]:
        found = client.batches.forecast(document)
        click.echo(json.dumps(found) if options["as_json"] else "\n".join(batchview.forecast(found)))
        return
    submitted = client.batches.submit(document, key or uuid4().hex)
    if options["wait"]:
        _follow(submitted, quiet=options["quiet"])
    if options["as_json"]:
        click.echo(json.dumps(submitted.raw))
    elif not options["quiet"]:
        click.echo(submitted.id)
    if options["wait"]:
        _exit_as(submitted)


@batch.command("list")
@click.option("--state", "states", multiple=True, help="Only batches in it; may be repeated.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first.")
@as_json
@calls_a_server
def list_batches(client: Client, states: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List your batches, newest first; with --json, a line a batch."""
    found = (one for one in client.batches.all() if not states or one.state in states)
    for one in islice(found, limit):
        click.echo(json.dumps(one.raw) if as_json else batchview.row(one.raw))


@batch.command()
@_ID
@click.option("--items", is_flag=True, help="List its items too.")
@click.option("--state", type=click.Choice(ITEM_STATES), help="List the items in this state.")
@as_json
@calls_a_server
def show(client: Client, batch_id: str, items: bool, state: str | None, as_json: bool) -> None:
    """Show a batch: its state, its progress, and its items where asked."""
    found = client.batches.get(batch_id)
    rows = list(found.items(state or "")) if items or state else []
    if as_json:
        click.echo(json.dumps(found.raw | ({"item_list": rows} if items or state else {})))
        return
    click.echo(batchview.described(found.raw))
    for row in rows:
        click.echo(batchview.item(row))


@batch.command()
@_ID
@quiet
@as_json
@calls_a_server
def watch(client: Client, batch_id: str, quiet: bool, as_json: bool) -> None:
    """Follow a batch to its end."""
    found = client.batches.get(batch_id)
    _follow(found, quiet=quiet)
    if as_json:
        click.echo(json.dumps(found.raw))
    elif not quiet:
        click.echo(batchview.described(found.raw))
    _exit_as(found)


def _follow(found: Batch, *, quiet: bool) -> None:
    follower = batchview.Follower(sys.stderr)
    try:
        found.wait(None if quiet else follower.show)
    except KeyboardInterrupt:
        click.echo(f"graycat: look at the batch again with: graycat batch watch {found.id}", err=True)
        raise
    finally:
        follower.clear()


def _exit_as(found: Batch) -> None:
    """Exit as a batch has ended, which is 0 where it succeeded."""
    if found.state != "succeeded":
        reason = f": {found.raw['reason']}" if found.raw.get("reason") else ""
        click.echo(f"graycat: the batch {found.id} has {_ended(found.state)}{reason}", err=True)
        raise click.exceptions.Exit(FAILED)


def _ended(state: str) -> str:
    return "been cancelled" if state == "cancelled" else state


def _verb(name: str, change: Callable[[Batch], Batch], told: str) -> None:
    """Add a command that tells a batch what to do."""

    @batch.command(name, help=told)
    @_ID
    @quiet
    @as_json
    @calls_a_server
    def command(client: Client, batch_id: str, quiet: bool, as_json: bool) -> None:
        found = change(client.batches.get(batch_id))
        if as_json:
            click.echo(json.dumps(found.raw))
        elif not quiet:
            click.echo(f"{found.id} {found.state}: {batchview.counts(found.raw)}")


_verb("pause", Batch.pause, "Have a batch start no more items; the image that is rendered is finished.")
_verb("resume", Batch.resume, "Have a batch go on; of one that has ended, make what is missing or damaged.")
_verb("cancel", Batch.cancel, "Cancel a batch; what it has made stays.")
_verb("retry-failed", Batch.retry_failed, "Have the failed items of a batch made once more.")


@batch.command()
@_ID
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@quiet
@calls_a_server
def export(client: Client, batch_id: str, folder: Path, quiet: bool) -> None:
    """Write what a batch has made so far to FOLDER: images, manifest.jsonl and a page. What is there already stays."""
    found = client.batches.get(batch_id)
    try:
        fetched, there = found.export(folder)
        exporting.whole(folder, found.raw, list(found.items()))
    except (OSError, OutputUnavailable) as error:
        raise click.UsageError(f"{folder}: {error}") from None
    if not quiet:
        click.echo(f"{there} images in {folder}, {fetched} of them new")


@batch.command()
@_ID
@click.option("--ttl", "ttl_s", type=Lifetime(), default="7d", show_default=True, help="How long it opens: 12h, 30d.")
@calls_a_server
def gallery(client: Client, batch_id: str, ttl_s: int) -> None:
    """Print a link to the page of a batch: whoever has it sees the images."""
    click.echo(client.batches.get(batch_id).gallery(ttl_s))
