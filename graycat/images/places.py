"""Paths and addresses in image requests: an engine would open or fetch them for its caller.

A text is refused as a place if it begins like one, once white space and quotes around it are gone:

- an address: ``https://...``, ``file:/...``, ``//host/...``, any scheme; only ``data:image/...`` is an image;
- an absolute path: ``/etc``, ``C:\\...``, ``C:x.png``, ``\\\\share``, ``~/...``, ``$HOME/...``, ``%TEMP%\\...``;
- or if ``..`` is one of its parts: ``models/../../etc``.

What passes: names below the engine's own folders (``sub/model.safetensors``), base64, and plain text with slashes
(``a cat/dog``, ``/imagine a cat``, ``see https://example.com``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from graycat.images.texts import walk_texts

#: What engines strip from a path that somebody pasted: quotes, the blanks of Python, marks without a width.
_AROUND = (
    " \t\r\n\v\f\0\"'\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\ufeff"
)
_SCHEME = r"[a-z][a-z0-9+.-]*:[\\/]|[a-z]:$|[a-z]:\S*\.[a-z]\w{1,11}$|(?:file|data):\S"
#: Of a shell, of PowerShell, of Windows; "$5" is none.
_VARIABLE = r"\$\{?(?:env:)?[a-z_]\w*\}?(?:[\\/]|$)|%\w+%(?:[\\/]|$)"
#: A backslash before a bracket is how prompts write one.
_BACKSLASH = r"\\[\w.$?\\/]"
#: The first part of a path has no blank; words behind a slash do.
_ROOT = r"/+(?:[^\s/]+(?:/|$)|$)"
_PLACE = re.compile(rf"{_SCHEME}|{_VARIABLE}|{_BACKSLASH}|{_ROOT}|~[\w.-]*(?:[\\/]|$)", re.IGNORECASE)
_UPWARDS = re.compile(r"(?:^|[\\/])\.\.(?:[\\/]|$)")
#: Base64 of a JPEG begins like a path; that of a PNG or WebP does not.
_JPEG = re.compile(r"/9j/[A-Za-z0-9+/=\s]*")
_IMAGE_URL = re.compile(r"data:image/[\w.+-]+[;,]", re.IGNORECASE)
#: What parts the items of a list in one text.
_SEPARATORS = re.compile(r"[\n\r,;|=()\[\]{}]")
_JSON_STARTS = ("{", "[", '"')
#: JSON inside of JSON inside of a text is looked into so often.
MAX_JSON_LEVELS = 4


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
    return any(is_place(text) for _, text in walk_texts(value))


def find_place_in_arguments(value: Any, path: str) -> str:
    """Return the path of the first text in a script's arguments that holds a place, '' if none does.

    Scripts take lists apart (``a.png, /etc/b``), read ``name=value``, and parse JSON inside a text: so does this.
    """
    for where, text in walk_texts(value, path):
        if any(map(is_place, _split(text, MAX_JSON_LEVELS))):
            return where
    return ""


def _split(text: str, levels: int) -> Iterator[str]:
    """Yield a text and what a script may take it apart into. ``levels``: how often JSON in it is parsed."""
    yield text
    bare = text.strip(_AROUND)
    if _IMAGE_URL.match(bare) or _JPEG.fullmatch(bare):
        return
    if text.strip()[:1] in _JSON_STARTS:
        inner = _parse_json(text.strip())
        if inner is not None and not levels:
            # Nobody nests JSON in JSON so often, but to hide something: as if it were a place.
            yield "/"
        elif inner is not None:
            for _, part in walk_texts(inner):
                yield from _split(part, levels - 1)
    if _SEPARATORS.search(text):
        yield from _SEPARATORS.split(text)


def _parse_json(text: str) -> Any:
    """Return what a JSON text holds if it is an object, a list or a text; else None."""
    try:
        value = json.loads(text)
    except RecursionError:
        return ["/"]
    except ValueError:
        return None
    return value if isinstance(value, (dict, list, str)) else None
