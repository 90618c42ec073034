"""``graycat acl``: users of the broker for workers on machines that are not ours."""

from __future__ import annotations

import secrets

import click
import redis

from graycat.queue import topology
from graycat.settings import Settings
from graycat.worker.broker_acl import setuser, worker_rules

KINDS = ("llm", "quick")


@click.group()
def acl() -> None:
    """Make users of the broker that may do one box's work and nothing else."""


@acl.command()
@click.argument("name")
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(list(topology.WORKER_KINDS)), default=KINDS, show_default=True,
    help="What runs on the box; may be given several times.",
)  # fmt: skip
@click.option("--hash", "hashed", is_flag=True, help="Put a hash into the line; the password goes to standard error.")
def worker(name: str, kinds: tuple[str, ...], hashed: bool) -> None:
    """Print the command that makes the user NAME for the box of that name (GRAYCAT_BOX=NAME there).

    Its password is shown this once. The same command makes a new one, and so shuts out who has the old one.
    """
    db = int(redis.connection.parse_url(Settings.from_env().broker_url).get("db", 0))
    password = secrets.token_urlsafe(32)
    click.echo(setuser(name, password, worker_rules(name, tuple(dict.fromkeys(kinds)), db), hashed=hashed))
    if hashed:
        click.echo(f"password: {password}", err=True)
