"""Paths and addresses in image requests: an engine would open or fetch them for its caller.

A text is refused as a place if it begins like one, once white space and quotes around it are gone:

- an address: ``https://...``, ``file:/...``, ``//host/...``, any scheme; only ``data:image/...`` is an image;
- an absolute path: ``/etc``, ``C:\\...``, ``\\\\share``, ``~/...``, ``$HOME/...``, ``%TEMP%\\...``;
- or if ``..`` is one of its parts: ``models/../../etc``.

What passes: names below the engine's own folders (``sub/model.safetensors``), base64, and plain text with slashes
(``a cat/dog``, ``/imagine a cat``, ``see https://example.com``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

#: What engines strip from a path that somebody pasted: quotes, the blanks of Python, marks without a width.
_AROUND = (
    " \t\r\n\v\f\0\"'\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\ufeff"
)
_SCHEME = r"[a-z][a-z0-9+.-]*:[\\/]|[a-z]:$|(?:file|data):\S"
_VARIABLE = r"\$\{?\w+\}?[\\/]|%\w+%[\\/]"
#: A backslash before a bracket is how prompts write one.
_BACKSLASH = r"\\[\w.$?\\/]"
#: The first part of a path has no blank; words behind a slash do.
_ROOT = r"/+(?:[^\s/]+(?:/|$)|$)"
_PLACE = re.compile(rf"{_SCHEME}|{_VARIABLE}|{_BACKSLASH}|{_ROOT}|~[\w.-]*(?:[\\/]|$)", re.IGNORECASE)
_UPWARDS = re.compile(r"(?:^|[\\/])\.\.(?:[\\/]|$)")
#: Base64 of a JPEG begins like a path; that of a PNG or WebP does not.
_JPEG = re.compile(r"/9j/[A-Za-z0-9+/=\s]*")
_IMAGE_URL = re.compile(r"data:image/[\w.+-]+[;,]", re.IGNORECASE)


def is_place(text: str) -> bool:
    """Return whether an engine might take a text for a path outside of its folders, or for an address."""
    bare = text.strip(_AROUND)
    if _IMAGE_URL.match(bare):
        return False
    if _PLACE.match(bare):
        return not _JPEG.fullmatch(bare)
    return ".." in bare and _UPWARDS.search(bare) is not None


def holds_place(value: Any) -> bool:
    """Return whether a JSON value holds a place, at any depth; also a name in an object counts."""
    return any(map(is_place, _strings(value)))


def _strings(value: Any) -> Iterator[str]:
    """Yield the strings in a JSON value, at any depth."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            pending.extend(item)
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
