"""``graycat acl``: users of the broker for workers on machines that may not do everything there."""

from __future__ import annotations

import secrets

import click
import redis

from graycat.cli.text import say
from graycat.queue import topology
from graycat.settings import Settings
from graycat.worker.broker_acl import setuser, worker_rules

DEFAULT_KINDS = ("llm", "quick")


@click.group()
def acl() -> None:
    """Create users of the broker for single boxes (machines with GPUs).

    Such a user may do the work of its box and nothing else. docs/boxes.md says more.
    """


@acl.command()
@click.argument("name")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(list(topology.WORKER_KINDS)),
    default=DEFAULT_KINDS,
    show_default=True,
    help="What runs on the box; may be repeated.",
)
@click.option(
    "--hash",
    "hashed",
    is_flag=True,
    help="Print the password's hash in the command, and the password itself to stderr.",
)
def worker(name: str, kinds: tuple[str, ...], hashed: bool) -> None:
    """Print the command that creates a box's user.

    It is an ACL command of Valkey and Redis. The user is called NAME, as the box is
    (GRAYCAT_BOX=NAME there). The user's password is shown only once. To replace it, run this again: the old password
    is refused then.
    """
    db = broker_db(Settings.from_env())
    password = secrets.token_urlsafe(32)
    unique_kinds = tuple(dict.fromkeys(kinds))
    say(setuser(name, password, worker_rules(name, unique_kinds, db), hashed=hashed))
    if hashed:
        say(f"password: {password}", err=True)


def broker_db(settings: Settings) -> int:
    """Return the number of the database that graycat uses."""
    if settings.sentinel is not None:
        return settings.sentinel.db
    return int(redis.connection.parse_url(settings.broker_url).get("db", 0))
