"""Patterns for the names of a batch's folder and files. Callers choose them; they never lead out of the folder."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from string import Formatter
from typing import Any

from graycat.bounds.names import suggest
from graycat.images.fields import GENERATION_FIELDS, MEANT

#: Names that a file pattern may use in addition to the fields of its item's request.
FILE_NAMES = ("batch", "name", "item", "variation", "seed", "prompt_slug", "varied", "ext")
#: Names that a folder pattern may use.
FOLDER_NAMES = ("batch", "name", "key", "schedule", "date")
DEFAULT_PATTERN, DEFAULT_FOLDER = "{item}-{seed}-{varied}", "{name}/{batch}"
#: Characters of one value in a name.
MAX_VALUE_CHARS = 48
#: Bytes of one part of a path.
MAX_PART_BYTES = 200
#: Characters of a pattern.
MAX_PATTERN_CHARS = 300
#: File extensions that a pattern may end in. They are ignored: the image decides the real one.
_EXTENSION = re.compile(r"\.(\{ext\}|png|jpe?g|webp)$", re.IGNORECASE)
_LITERAL = re.compile(r"[\w .+=@,()#/-]*")
_WIDTH = re.compile(r"(0?[1-9]\d?)?d?")


class Slug(str):
    """A text that is a part of a name already, however long."""

    __slots__ = ()


def slugify(text: str, max_chars: int = MAX_VALUE_CHARS) -> str:
    """Return a text as part of a name: letters and digits of any script, with dashes for everything else."""
    words = re.sub(r"[^\w.]+|\.\.+", "-", unicodedata.normalize("NFKC", text).casefold()).strip("-._")
    return words[:max_chars].rstrip("-._")


def check_pattern(pattern: str, names: Iterable[str] | None) -> str:
    """Return what is wrong with a pattern; '' if it is valid. ``names``: those it may use; None allows any word."""
    if not pattern or len(pattern) > MAX_PATTERN_CHARS:
        return f"must have 1 to {MAX_PATTERN_CHARS} characters"
    try:
        parts = list(Formatter().parse(pattern))
    except ValueError as error:
        return f"is not a valid pattern: {error}"

    # The pattern with an x for each value.
    example = ""
    for literal, name, width, conversion in parts:
        if not _LITERAL.fullmatch(literal):
            return "may hold letters, digits, blanks and . _ - + = @ , ( ) # / and {names}"
        example += literal
        if name is not None:
            problem = _check_name(name, width or "", conversion, names)
            if problem:
                return problem
            example += "x"
    return _check_path(example)


def _check_name(name: str, width: str, conversion: str | None, names: Iterable[str] | None) -> str:
    """Return what is wrong with one ``{name:width}`` of a pattern; '' if it is valid."""
    if conversion or not name.isidentifier() or not _WIDTH.fullmatch(width):
        return f"uses {{{name[:40]}}} with an unknown format; write {{item}} or {{item:04}}"
    if names is not None and name not in names:
        return f"uses {{{name[:40]}}}; it may use {', '.join(sorted(names))}"
    return ""


def _check_path(path: str) -> str:
    """Return what is wrong with a path; '' if it stays inside of its folder."""
    for part in path.split("/"):
        if not part.strip(" .") or part.startswith("."):
            return "must stay inside the folder: no part may be empty or begin with a dot"
    return ""


def own_names(pattern: str) -> frozenset[str]:
    """Return the names in a valid file pattern that are fields of its caller's own: no engine has such a field."""
    names = set()
    with suppress(ValueError):
        names = {name for _, name, _, _ in Formatter().parse(pattern) if name}
    return frozenset(names - set(FILE_NAMES) - GENERATION_FIELDS)


def find_unused(names: Iterable[str], bodies: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with names of a file pattern that no item has: they would be ``none`` in every name."""
    problems = []
    for name in sorted(names):
        if not any(name in body for body in bodies):
            suggestion = suggest(name, GENERATION_FIELDS | set(FILE_NAMES), MEANT)
            problems.append(f"uses {{{name[:40]}}}, which no item has; {suggestion}".rstrip("; "))
    return problems


def fill_pattern(pattern: str, values: Mapping[str, Any]) -> str:
    """Return a pattern with its values as slugs. A value that is missing or empty becomes ``none``."""
    filled = ""
    for literal, name, width, _ in Formatter().parse(pattern):
        filled += literal
        if name is not None:
            filled += _format_value(values.get(name), width or "")

    parts = []
    for part in filled.split("/"):
        parts.append(_truncate(part.strip(" .")) or "none")
    return "/".join(parts)


def strip_extension(pattern: str) -> str:
    """Return a file pattern without its extension, because the image decides that."""
    return _EXTENSION.sub("", pattern) or pattern


def _format_value(value: Any, width: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return format(value, width.rstrip("d") + "d")
    if value is None:
        return "none"
    if isinstance(value, Slug):
        return value or "none"
    return slugify(str(value)) or "none"


def _truncate(part: str) -> str:
    return part.encode()[:MAX_PART_BYTES].decode(errors="ignore").rstrip(" .")
