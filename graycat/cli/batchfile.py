"""A batch's spec as a file, and the files that it names: read here, for a server opens none for its callers."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import click

from graycat.batches import spec
from graycat.batches.errors import InvalidBatch

FORMATS = {".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".json": "json"}


def read(path: str, settings: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the spec in a file (``-``: TOML, YAML or JSON on stdin), its items' file read in, defaults set.

    ``settings`` are ``KEY=VALUE``, a field of ``defaults`` each. Raises click.UsageError.
    """
    try:
        document = _document(path)
    except InvalidBatch as error:
        raise click.UsageError(f"{path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path}: {error}") from None
    if isinstance(document.get("items"), str):
        folder = Path() if path == "-" else Path(path).parent
        document["items"] = items(folder / document["items"])
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not (key and equals):
            raise click.UsageError(f"--set: {setting!r} is not KEY=VALUE")
        document["defaults"] = {**(document.get("defaults") or {}), key: valued(value)}
    return document


def _document(path: str) -> dict[str, Any]:
    if path != "-":
        kind = FORMATS.get(Path(path).suffix.lower())
        if kind is None:
            raise click.UsageError(f"{path}: the name must end in {', '.join(FORMATS)}")
        return spec.load(Path(path).read_text(encoding="utf-8"), kind)
    text = sys.stdin.read()
    try:
        return spec.load(text, "toml")
    except InvalidBatch:
        # JSON is YAML.
        return spec.load(text, "yaml")


def items(path: Path) -> list[Any]:
    """Return the items in a file: CSV with a line of field names, JSON lines, or a prompt a line (``.txt``)."""
    kind = path.suffix.lower()
    try:
        text = path.read_text(encoding="utf-8-sig")
        if kind == ".csv":
            return [_row(row) for row in csv.DictReader(text.splitlines())]
        lines = [line for line in text.splitlines() if line.strip()]
        if kind in (".jsonl", ".ndjson"):
            return [json.loads(line) for line in lines]
        if kind == ".txt":
            return [line.strip() for line in lines]
    except (OSError, ValueError, csv.Error) as error:
        raise click.UsageError(f"{path}: {error}") from None
    raise click.UsageError(f"{path}: items are in a .csv, .jsonl or .txt file")


def _row(row: dict[str, Any]) -> dict[str, Any]:
    if None in row or None in row.values():
        raise ValueError("a line has not as many fields as the first one")
    # A field that is empty is left to the defaults.
    texts = ("prompt", "negative_prompt")
    return {name: value if name in texts else valued(value) for name, value in row.items() if value != ""}


def valued(text: str) -> Any:
    """Return a text's value: JSON where it is, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
