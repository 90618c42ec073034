"""File paths of the boxes in what engines say: the last part stays, the rest is hidden."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

#: A whole text longer than this is no path.
MAX_PATH_CHARS = 4096
#: Fields that hold texts which people wrote. A prompt may begin with a slash.
TEXT_FIELDS = frozenset({"prompt", "negative_prompt", "chat_template", "description", "desc", "extra"})

#: How an absolute path begins: a URL of a file, a drive, a share, a home folder, or the root.
_START = r"(?:file:/{1,3}|[A-Za-z]:[\\/]|\\\\[\w.-]+\\(?=[\w$])|~[\w.-]*[\\/]|/(?!/))"
_WHOLE = re.compile(rf"{_START}[^\r\n]*")
#: In quotes a path may have spaces.
_QUOTED = re.compile(rf"""(?<=(['"`]))({_START}[^'"`\r\n]+)(?=\1)""")
#: Not behind a letter (a relative path, a fraction, a URL), nor in a tag such as ``</s>``.
_BARE = re.compile(rf"(?<![\w./\\~<%-]){_START}[^\s'\"`<>|,;:()\[\]{{}}]+")
#: Routes of the engines' APIs look like paths, and callers know them.
_ROUTES = re.compile(r"/(?:v1|sdapi|api|internal|sdcpp)(?:/|$)")
_SEPARATORS = re.compile(r"[\\/]+")
_PARTS = 2
_MODEL_SUFFIX = ".gguf"
_PART_NUMBER = re.compile(r"-\d{5}-of-\d{5}\Z")


def is_path(text: str) -> bool:
    """Return whether a whole text is an absolute path: of two parts at least, or of one with a suffix."""
    if len(text) > MAX_PATH_CHARS or not _WHOLE.fullmatch(text) or _ROUTES.match(text):
        return False
    parts = _parts(text)
    return len(parts) >= _PARTS or any("." in part.strip(".") for part in parts)


def short_name(text: str) -> str:
    """Return the last part of an absolute path; any other text unchanged."""
    if not is_path(text):
        return text
    return _parts(text)[-1]


def model_name(text: str) -> str:
    """Return the name of a model that its engine calls by its file: the file's name without suffix and number of part.

    Any other text is returned unchanged, for example ``OWNER/REPOSITORY:Q4_K_M``.
    """
    if is_path(text):
        text = short_name(text)
    elif not text.lower().endswith(_MODEL_SUFFIX):
        return text
    last = _parts(text)[-1]
    if not last.lower().endswith(_MODEL_SUFFIX) or len(last) == len(_MODEL_SUFFIX):
        return last
    return _PART_NUMBER.sub("", last[: -len(_MODEL_SUFFIX)])


def _parts(path: str) -> list[str]:
    return list(filter(None, _SEPARATORS.split(path.removeprefix("file:"))))


def hide_paths(value: Any) -> Any:
    """Return a JSON value with the last part in place of each string in it that is an absolute path.

    Keys, and the fields of ``TEXT_FIELDS``, stay as they are.
    """
    return map_texts(value, short_name)


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a JSON value with each string in it changed, but for keys and the fields of ``TEXT_FIELDS``."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [map_texts(entry, change) for entry in value]
    if not isinstance(value, dict):
        return value
    changed = {}
    for name, field in value.items():
        if name in TEXT_FIELDS and isinstance(field, str):
            changed[name] = field
        else:
            changed[name] = map_texts(field, change)
    return changed


def hide_paths_in_text(text: str, known: str = "") -> str:
    """Return a sentence with the last part in place of each absolute path in it.

    A path that stands in ``known``, a caller's own request, is no secret and stays.
    """

    def shorten(match: re.Match[str]) -> str:
        path = match[0]
        if _is_known(path, known):
            return path
        return short_name(path)

    return _BARE.sub(shorten, _QUOTED.sub(shorten, text))


def _is_known(path: str, known: str) -> bool:
    # Engines quote a request as its texts, or as JSON.
    return path in known or json.dumps(path, ensure_ascii=False)[1:-1] in known


def _read_request(request: bytes) -> str:
    """Return a request's JSON with one way to write each character: callers choose theirs, and engines their own."""
    text = request.decode(errors="replace")
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def hide_paths_in_error(reply: bytes, request: bytes = b"") -> bytes:
    """Return an engine's error without the paths of its box; unchanged if it has none.

    ``request``: the body that the caller sent.
    """
    text = reply.decode(errors="replace")
    known = _read_request(request)
    try:
        value = json.loads(text)
        changed = map_texts(value, lambda found: hide_paths_in_text(found, known))
        hidden = json.dumps(changed)
    except (ValueError, RecursionError):
        value, changed = text, hide_paths_in_text(text, known)
        hidden = changed
    if changed == value:
        return reply
    return hidden.encode()
