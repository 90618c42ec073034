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


#: Characters of a field's name that a message repeats.
_MAX_NAME_CHARS = 100


def refuse_depth(max_depth: int, value: Any = None) -> TooComplex:
    """Return the error for JSON that is nested too deeply. ``value``: the JSON, whose field is named."""
    where = "the JSON"
    if isinstance(value, dict):
        for name, part in value.items():
            if _is_deeper(part, max_depth - 1):
                where = repr(name[:_MAX_NAME_CHARS])
                break
    return TooComplex(f"{where} is nested more than {max_depth} levels deep (GRAYCAT_MAX_JSON_DEPTH)")


def check_depth(value: Any, raw: bytes, max_depth: int) -> None:
    """Raise TooComplex if a parsed value has more levels of objects and arrays than ``max_depth``.

    ``raw`` is its JSON. Most bodies have fewer brackets than they may have levels, and are not walked at all.
    """
    if raw.count(b"{") + raw.count(b"[") <= max_depth:
        return
    brackets = _pick_brackets(raw)
    if brackets is not None:
        is_deeper = _are_brackets_deeper(brackets, max_depth)
    else:
        is_deeper = _is_deeper(value, max_depth)
    if is_deeper:
        raise refuse_depth(max_depth, value)


def _is_deeper(value: Any, max_depth: int) -> bool:
    """Return whether a parsed value has more levels."""
    level = _list_containers([value])
    depth = 0
    while level:
        depth += 1
        if depth > max_depth:
            return True
        inner: list[Any] = []
        for container in level:
            if isinstance(container, dict):
                inner.extend(container.values())
            else:
                inner.extend(container)
        level = _list_containers(inner)
    return False


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


def _are_brackets_deeper(brackets: bytes, max_depth: int) -> bool:
    """Return whether brackets are nested more deeply: each round takes out the innermost."""
    for _ in range(max_depth):
        brackets = brackets.replace(b"{}", b"")
        if not brackets:
            return False
    return True


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
