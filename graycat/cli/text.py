"""Pieces of text that several commands print: tables, times, and values of KEY=VALUE options."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import click

from graycat.redaction.terminal import CLEAR_LINE, one_line, printable

Row = Sequence[str]


def say(text: object = "", *, nl: bool = True, err: bool = False, file: TextIO | None = None) -> None:
    """Print a text. Every command prints with this: names and errors come from elsewhere, and a terminal obeys escapes.

    ``nl``: end the line; ``err``: on standard error; ``file``: where else.
    """
    click.echo(printable(str(text)), nl=nl, err=err, file=file)


def say_over(text: str, file: TextIO) -> None:
    """Print a text in place of the terminal's current line."""
    click.echo(CLEAR_LINE + one_line(text), nl=False, file=file)


def format_table(header: Row, rows: Iterable[Row]) -> str:
    """Return rows under a header, in columns as wide as their longest cell."""
    lines = [header]
    for row in rows:
        lines.append(tuple(map(one_line, row)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = []
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        padded.append("  ".join(cells).rstrip())
    return "\n".join(padded)


def format_fields(fields: dict[str, Any]) -> list[str]:
    """Return a line ``name: value`` for each field that has a value."""
    return [f"{name + ':':<11}{one_line(str(value))}" for name, value in fields.items() if value]


def format_time(at_ms: int | None) -> str:
    """Return milliseconds since 1970 as an ISO time in UTC; '' for None and 0."""
    if not at_ms:
        return ""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_assignment(option: str, text: str) -> tuple[str, Any]:
    """Return the key and the value of KEY=VALUE. Raises click.UsageError naming the option."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise click.UsageError(f"{option}: {text!r} is not KEY=VALUE")
    return key, parse_value(value)


def parse_value(text: str) -> Any:
    """Return a text's JSON value, or the text itself if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def read_stdin() -> str:
    """Return the text on standard input. Raises ValueError, which says what is wrong."""
    try:
        return sys.stdin.read().removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise ValueError("standard input is not UTF-8") from None
