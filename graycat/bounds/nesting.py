"""How deeply JSON may be nested: readers, writers and engines call themselves once a level."""

from __future__ import annotations

import re
from typing import Any

from graycat.errors import TooComplex

#: Of JSON only its brackets, all in one form, and the quotes around strings.
_ONE_FORM = bytes.maketrans(b"[]", b"{}")
_REST = bytes(set(range(256)) - set(b'{}[]"'))
#: A string, or a bracket outside of strings.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"?|[][{}]', re.DOTALL)


def refuse_depth(max_depth: int) -> TooComplex:
    """Return the error for JSON that is nested too deeply."""
    return TooComplex(f"the JSON is nested more than {max_depth} levels deep (GRAYCAT_MAX_JSON_DEPTH)")


def check_depth(value: Any, raw: bytes, max_depth: int) -> None:
    """Raise TooComplex if a parsed value has more levels of objects and arrays than ``max_depth``.

    ``raw`` is its JSON. Most bodies have fewer brackets than they may have levels, and are not walked at all.
    """
    if raw.count(b"{") + raw.count(b"[") <= max_depth:
        return
    brackets = _pick_brackets(raw)
    if brackets is not None:
        _check_brackets(brackets, max_depth)
        return
    level = _list_containers([value])
    depth = 0
    while level:
        depth += 1
        if depth > max_depth:
            raise refuse_depth(max_depth)
        inner: list[Any] = []
        for container in level:
            if isinstance(container, dict):
                inner.extend(container.values())
            else:
                inner.extend(container)
        level = _list_containers(inner)


def _pick_brackets(raw: bytes) -> bytes | None:
    """Return the brackets outside of strings, all in one form; None if strings have some, too, or in UTF-16.

    Much faster than a walk through a hundred thousand parsed values. ``raw`` is known to be JSON.
    """
    if b"\0" in raw:
        return None
    # Escaped backslashes and quotes, in this order; what escapes are left say nothing.
    unescaped = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Quotes that touch go in pairs, whether they begin and end one string or end and begin two: a bracket between two
    # strings stays so, and one in a string keeps a quote on each side.
    picked = unescaped.translate(_ONE_FORM, _REST).replace(b'""', b"")
    if b'"' in picked:
        return None
    return picked


def _check_brackets(brackets: bytes, max_depth: int) -> None:
    """Raise TooComplex if brackets are nested more deeply: each round takes out the innermost."""
    for _ in range(max_depth):
        brackets = brackets.replace(b"{}", b"")
        if not brackets:
            return
    raise refuse_depth(max_depth)


def _list_containers(values: list[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, (dict, list))]


def check_text_depth(text: str, max_depth: int) -> None:
    """Raise TooComplex if a text that may be JSON is nested more deeply than ``max_depth``."""
    if text.count("{") + text.count("[") <= max_depth:
        return
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        part = match[0]
        if part in "[{":
            depth += 1
            if depth > max_depth:
                raise refuse_depth(max_depth)
        elif part in "]}":
            depth -= 1
