"""Names of a batch's folder and files: patterns that callers choose, which never lead anywhere else."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from string import Formatter
from typing import Any

#: What a file's pattern may name beside the fields of its item's request.
FILE_NAMES = ("batch", "name", "item", "variation", "seed", "prompt_slug", "ext")
#: What a folder's pattern may name.
FOLDER_NAMES = ("batch", "name", "key", "schedule", "date")
DEFAULT_PATTERN, DEFAULT_FOLDER = "{item}-{seed}-{prompt_slug}", "{name}/{batch}"
#: Characters of one value in a name, of a part between slashes (in bytes), and of a pattern.
MAX_VALUE, MAX_PART_BYTES, MAX_PATTERN = 48, 200, 300
#: Ends that a pattern may have; the real one follows from the image.
_ENDS = re.compile(r"\.(\{ext\}|png|jpe?g|webp)$", re.IGNORECASE)
_LITERAL = re.compile(r"[\w .+=@,()#/-]*")
_WIDTH = re.compile(r"(0?[1-9]\d?)?d?")


def slug(text: str, most: int = MAX_VALUE) -> str:
    """Return a text as a part of a name: letters and digits of any script, dashes for all else."""
    words = re.sub(r"[^\w.]+|\.\.+", "-", unicodedata.normalize("NFKC", text).casefold()).strip("-._")
    return words[:most].rstrip("-._")


def complaint(pattern: str, names: Iterable[str] | None) -> str:
    """Return what is wrong with a pattern; '' where it is good. ``names``: those it may name, None for any word."""
    if not pattern or len(pattern) > MAX_PATTERN:
        return f"must have 1 to {MAX_PATTERN} characters"
    try:
        parts = list(Formatter().parse(pattern))
    except ValueError as error:
        return f"is no pattern: {error}"
    for literal, name, width, conversion in parts:
        if not _LITERAL.fullmatch(literal):
            return "may hold letters, digits, blanks and . _ - + = @ , ( ) # / beside {names}"
        if name is None:
            continue
        if conversion or not name.isidentifier() or not _WIDTH.fullmatch(width or ""):
            return f"names {{{name[:40]}}} in a way that is none; write {{item}} or {{item:04}}"
        if names is not None and name not in names:
            return f"names {{{name[:40]}}}; it may name {', '.join(sorted(names))}"
    pieces = "".join(literal if name is None else f"{literal}x" for literal, name, _, _ in parts).split("/")
    if any(not piece.strip(" .") or piece.startswith(".") for piece in pieces):
        return "must not lead elsewhere: no part may be empty or begin with a dot"
    return ""


def filled(pattern: str, values: Mapping[str, Any]) -> str:
    """Return a pattern with its values, each made harmless. One that is missing or empty is ``none``."""
    done = []
    for literal, name, width, _ in Formatter().parse(pattern):
        done.append(literal)
        if name is not None:
            value = values.get(name)
            if isinstance(value, int) and not isinstance(value, bool):
                done.append(format(value, (width or "").rstrip("d") + "d"))
            else:
                done.append(slug(str("" if value is None else value)) or "none")
    parts = [_cut(part.strip(" .")) or "none" for part in "".join(done).split("/")]
    return "/".join(parts)


def stem(pattern: str) -> str:
    """Return a file's pattern without the end that follows from the image."""
    return _ENDS.sub("", pattern) or pattern


def _cut(part: str) -> str:
    return part.encode()[:MAX_PART_BYTES].decode(errors="ignore").rstrip(" .")
