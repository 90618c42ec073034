"""Texts of others on a terminal and in logs: characters that a terminal would obey are written as escapes."""

from __future__ import annotations

import re

#: Terminal codes: go to the start of the line and clear it.
CLEAR_LINE = "\r\x1b[K"

#: C0 without tab and line feed, DEL, C1, the separators of lines, what turns the direction of text, and halves of
#: characters (bytes of the command line that are no UTF-8 become such), which nothing can write.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_OBEYED_OR_BREAK = re.compile(f"{_OBEYED.pattern[:-1]}\\t\\n]")
_NAMES = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def printable(text: str) -> str:
    """Return a text with escapes such as ``\\u001b`` in place of control characters; tabs and line feeds stay."""
    return _OBEYED.sub(_escape, text)


def one_line(text: str) -> str:
    """Return a text that also cannot begin another line or column."""
    return _OBEYED_OR_BREAK.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    # In this form also JSON takes it: an escape in a printed document is the same character still.
    return _NAMES.get(match[0], f"\\u{ord(match[0]):04x}")
