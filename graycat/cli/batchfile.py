"""Reads a batch's spec from a file, and its items from the file that it names.

The command line does this because a server opens no file for its callers.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import click

from graycat import params
from graycat.batches import spec
from graycat.batches.errors import InvalidBatch
from graycat.bounds import documents
from graycat.cli.text import parse_assignment, parse_value, read_stdin

FORMATS = {".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".json": "json"}
#: The tables that items may be in, by their dialects in the csv module.
TABLES = {".csv": "excel", ".tsv": "excel-tab"}
#: Columns of a CSV file that are text even if a value looks like a number.
TEXT_COLUMNS = ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt")
#: What the csv module says of a file that ends within a cell.
_CELL_LEFT_OPEN = "unexpected end of data"


def load_spec(path: str, assignments: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the spec in a file (``-``: TOML, YAML or JSON on stdin) with its items, and with ``defaults`` changed.

    ``assignments``: ``KEY=VALUE``, each for a field of ``defaults``. Raises click.UsageError.
    """
    try:
        document = _parse_file(path)
    except (InvalidBatch, ValueError) as error:
        raise click.UsageError(f"{path}: {error}") from None

    if isinstance(document.get("items"), str):
        folder = Path()
        if path != "-":
            folder = Path(path).parent
        document["items"] = load_items(folder / document["items"])
    for assignment in assignments:
        key, value = parse_assignment("--set", assignment)
        document["defaults"] = {**(document.get("defaults") or {}), key: value}
    return document


def _parse_file(path: str) -> dict[str, Any]:
    if path == "-":
        return _parse_stdin()
    file_format = FORMATS.get(Path(path).suffix.lower())
    if file_format is None:
        raise click.UsageError(f"{path}: the name must end in {', '.join(FORMATS)}")
    return spec.load(documents.read_text_file(Path(path)), file_format)


def _parse_stdin() -> dict[str, Any]:
    text = read_stdin()
    try:
        return spec.load(text, "toml")
    except InvalidBatch:
        # JSON is YAML too.
        return spec.load(text, "yaml")


def load_items(path: Path) -> list[Any]:
    """Return the items in a file: CSV or TSV with a header, JSON lines, or text with one prompt a line (``.txt``).

    Raises click.UsageError.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in TABLES:
            # The csv module ends lines itself: a cell in quotes may have some, of any kind.
            with path.open(encoding="utf-8-sig", newline="") as file:
                items: list[Any] = list(_parse_table(file, TABLES[suffix]))
            return _require_items(path, items)
        # As files end lines: a text in JSON may hold any other separator, such as U+2028.
        with path.open(encoding="utf-8-sig") as file:
            if suffix in (".jsonl", ".ndjson"):
                return _require_items(path, list(_parse_lines(file)))
            if suffix == ".txt":
                return _require_items(path, list(_parse_prompts(file)))
    except (OSError, ValueError, csv.Error) as error:
        raise click.UsageError(f"{path}: {documents.describe_file_error(error)}") from None
    raise click.UsageError(f"{path}: items must be in a .csv, .tsv, .jsonl or .txt file")


def _require_items(path: Path, items: list[Any]) -> list[Any]:
    """Return the items of a file. Raises click.UsageError if there are none: the server would blame the spec."""
    if items:
        return items
    if path.suffix.lower() in TABLES:
        raise click.UsageError(f"{path}: has no rows; the first line names the fields, each further one is an item")
    raise click.UsageError(f"{path}: has no items")


def _parse_table(file: TextIO, dialect: str) -> Iterator[dict[str, Any]]:
    """Yield the rows below a header. Raises ValueError, csv.Error."""
    reader = csv.DictReader(file, dialect=dialect, strict=True)
    names = reader.fieldnames or ()
    if len(names) == 1 and ";" in names[0]:
        # Spreadsheets of many countries write such files.
        raise ValueError("its cells are separated by semicolons; save it with commas, or as .tsv with tabs")
    for name in names:
        if not name.strip() or names.count(name) > 1:
            raise ValueError(f"the header has the column {name!r} {names.count(name)} times; each needs its own name")
    try:
        for row in reader:
            yield _parse_row(row)
    except UnicodeDecodeError:
        raise
    except (ValueError, csv.Error) as error:
        text = str(error)
        if text == _CELL_LEFT_OPEN:
            text = "a cell in quotes has no end"
        raise ValueError(f"line {reader.reader.line_num}: {text}") from None


def _parse_lines(file: TextIO) -> Iterator[Any]:
    """Yield the item of each line that is not empty. Raises ValueError, which names the line."""
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            yield _parse_line(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number}: is no JSON ({error.msg}, column {error.colno})") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: {error}") from None


def _parse_prompts(file: TextIO) -> Iterator[str]:
    """Yield the prompt of each line that is not empty. Raises ValueError, which names the line."""
    for number, line in enumerate(file, start=1):
        prompt = line.strip()
        for _, content in params.find_unusable_texts(prompt):
            raise ValueError(f"line {number}: holds {content}")
        if prompt:
            yield prompt


def _parse_line(line: str) -> Any:
    try:
        item = json.loads(line, object_pairs_hook=documents.refuse_repeated)
    except json.JSONDecodeError:
        raise
    except ValueError:
        # Of a number with thousands of digits Python speaks of its own settings: this says it in plain words.
        item = documents.parse(line, "json")
    for field, content in params.find_unusable_texts(item, "item"):
        raise ValueError(f"{field} holds {content}: {line.strip()[:100]}")
    return item


def _parse_row(row: dict[str, Any]) -> dict[str, Any]:
    # csv puts cells beyond the header under None, and None into columns that a line lacks.
    if None in row or None in row.values():
        raise ValueError("has more or fewer fields than the header")
    fields = {}
    for name, value in row.items():
        if name in TEXT_COLUMNS and value != "":
            fields[name] = value
        elif value != "":
            fields[name] = parse_value(value)
    for field, content in params.find_unusable_texts(fields, "item"):
        raise ValueError(f"{field} holds {content}")
    # An empty cell is left out, so that the item takes the spec's default.
    return fields
