"""``graycat tokens usage``: what API tokens have used."""

from __future__ import annotations

import json

import click

from graycat.broker.client import connect
from graycat.cli.text import format_table, say
from graycat.settings import Settings
from graycat.usage.amounts import Amounts, add_up
from graycat.usage.reader import UsageReader

COLUMNS = (
    *("DAY", "TOKEN", "FAMILY", "REQUESTS", "FAILED", "CANCELLED"),
    *("PROMPT TOKENS", "COMPLETION TOKENS", "IMAGES", "GPU SECONDS"),
)


@click.command()
@click.argument("name", required=False)
@click.option("--from", "first", metavar="DAY", help="The first day, such as 2026-11-29 (UTC). Default: 30 days ago.")
@click.option("--to", "last", metavar="DAY", help="The last day. Default: today.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as GET /usage answers.")
def usage(name: str | None, first: str | None, last: str | None, *, as_json: bool) -> None:
    """Show what API tokens have used, by day.

    Of all tokens, or of the one called NAME.
    """
    reader = UsageReader(connect(Settings.from_env()))
    first_day, last_day = reader.choose_days(first, last)
    rows = reader.read(first_day, last_day, name)
    total = add_up(rows)
    if as_json:
        shown = {"from": first_day.isoformat(), "to": last_day.isoformat(), "rows": [row.to_dict() for row in rows]}
        say(json.dumps(shown | {"total": total.to_dict()}, indent=2))
        return
    if not rows:
        say(f"nothing was used from {first_day} to {last_day} (UTC)")
        return
    lines = [(row.day.isoformat(), row.owner, row.family, *_format(row.amounts)) for row in rows]
    lines.append(("total", "", "", *_format(total)))
    say(format_table(COLUMNS, lines))


def _format(amounts: Amounts) -> tuple[str, ...]:
    return tuple(map(str, amounts.to_dict().values()))
