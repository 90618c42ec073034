"""``graycat tokens``: create, list, rotate and revoke API tokens, and show what they have used."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import click

from graycat.auth.authenticator import Authenticator
from graycat.auth.limits import Limits
from graycat.auth.minted import Grant
from graycat.auth.sealed import Minted
from graycat.auth.tokens import SCOPES, USUAL_SCOPES
from graycat.broker.client import broker_errors, connect
from graycat.cli.text import format_table, say
from graycat.cli.usage import usage
from graycat.errors import BrokerUnavailable, GraycatError, SettingsError
from graycat.settings import Settings

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
COLUMNS = ("PREFIX", "NAME", "SCOPES", "LIMITS", "CREATED", "EXPIRES", "LAST USED", "OLD SECRET UNTIL")


class TokenCommands(click.Group):
    """A group whose commands print graycat's own errors as one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except SettingsError:
            raise
        except BrokerUnavailable:
            raise click.ClickException(_explain_no_broker(Settings.from_env())) from None
        except GraycatError as error:
            raise click.ClickException(str(error)) from None


def _explain_no_broker(settings: Settings) -> str:
    if not settings.embedded_broker:
        return "the broker of REDIS_URL or REDIS_HOST does not answer (docs/broker.md)"
    return (
        f"no broker answers in {settings.home.resolve()}: run this in the folder where graycat was started, "
        "or set GRAYCAT_HOME; 'graycat up' starts one"
    )


class Lifetime(click.ParamType):  # type: ignore[type-arg]  # older releases of click take none
    """A number and a unit: 90s, 15m, 12h, 30d, 2w."""

    name = "lifetime"

    def __init__(self, *, zero: bool = False) -> None:
        """``zero``: whether none at all, 0, may be given."""
        self._zero = zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the seconds."""
        if self._zero and str(value) == "0":
            return 0
        match = re.fullmatch(r"([1-9]\d{0,8})([smhdw])", str(value), re.ASCII)
        if match is None:
            self.fail(f"{value!r} is not a lifetime; write for example 12h, 30d or 2w", param, ctx)
        return int(match[1]) * UNIT_SECONDS[match[2]]


@click.group(cls=TokenCommands)
def tokens() -> None:
    """Create, list, rotate and revoke API tokens, and show what they have used."""


tokens.add_command(usage)


def _open_authenticator() -> Authenticator:
    settings = Settings.from_env()
    client = connect(settings)
    # Before the authenticator makes the keys that are missing: the wrong folder gets none.
    with broker_errors():
        client.ping()
    return Authenticator.from_settings(settings, client)


@tokens.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help="What the token may do; may be repeated. Default: llm, sd and batch.",
)
@click.option("--expires", type=Lifetime(), help="Lifetime: 12h, 30d, 2w. Default: until the token is revoked.")
@click.option("--rate", type=int, help="How many requests a minute may create a task.")
@click.option("--concurrency", type=int, help="How many tasks may be unfinished at once.")
@click.option("--queued", type=int, help="How many tasks may wait at once.")
@click.option("--max-tokens", type=int, help="How many tokens one request may generate.")
@click.option("--max-pixels", type=int, help="How many pixels the images of one request may have together.")
def create(name: str, scopes: tuple[str, ...], expires: int | None, **limits: int | None) -> None:
    """Create an API token and print it. It is never shown again."""
    chosen_limits = {limit: value for limit, value in limits.items() if value is not None}
    grant = Grant(name, frozenset(scopes) or USUAL_SCOPES, Limits.read(chosen_limits), expires)
    secret, minted = _open_authenticator().mint(grant)
    say(secret)
    say(f"{minted.token.prefix} is {name!r}. It is not shown again; revoke it with: "
               f"graycat tokens revoke {name}", err=True)  # fmt: skip


@tokens.command("list")
def list_tokens() -> None:
    """List the API tokens that were created with 'create'."""
    rows = map(_format_row, _open_authenticator().minted.all())
    say(format_table(COLUMNS, rows))


@tokens.command()
@click.argument("name_or_prefix")
def revoke(name_or_prefix: str) -> None:
    """Revoke an API token, and the player tokens that it has issued."""
    token = _open_authenticator().minted.revoke(name_or_prefix).token
    say(f"{token.prefix} ({token.name}) is revoked; every process refuses it within two seconds")


@tokens.command()
@click.argument("name_or_prefix")
@click.option(
    "--overlap",
    type=Lifetime(zero=True),
    default="24h",
    show_default=True,
    help="How long the secret that it has now is accepted, too; 0 to refuse it at once.",
)
def rotate(name_or_prefix: str, overlap: int) -> None:
    """Give an API token a new secret and print it. Its tasks, limits and players' tokens stay."""
    secret, minted = _open_authenticator().minted.rotate(name_or_prefix, overlap)
    say(secret)
    token = minted.token
    rest = "every other secret of it is refused within two seconds"
    if token.former_until is not None:
        rest = f"the one before is accepted until {_format_time(token.former_until)}"
    say(f"{token.prefix} ({token.name}) has this new secret; {rest}", err=True)


def _format_row(minted: Minted) -> tuple[str, ...]:
    token = minted.token
    if not token.digest:
        return token.prefix, "?", "made with another GRAYCAT_TOKEN_KEY, is refused", "", "", "", "", ""
    limits = " ".join(f"{name}={value}" for name, value in token.limits.to_dict().items())
    times = (minted.created_at, token.expires_at, minted.last_used_at, token.former_until)
    return token.prefix, token.name, ",".join(sorted(token.scopes)), limits or "-", *map(_format_time, times)


def _format_time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
