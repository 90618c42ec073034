"""The ``.env`` file of the working directory: lines of ``NAME=value``, read as Docker Compose does."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from dotenv.parser import parse_stream

from graycat.errors import SettingsError

#: More bytes than any file of settings has. A larger file would keep each command busy for minutes.
MAX_BYTES = 128 * 1024
#: What Python or an environment takes for an end and no editor does: in a value it would be invisible.
_HIDDEN_ENDS = re.compile("[\x00\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
#: The name of a variable in a sentence.
_NAME_IN_TEXT = re.compile(r"\b[A-Z][A-Z0-9_]+\b")


class Assignment(NamedTuple):
    """What a file sets a name to, and the number of the line."""

    value: str
    line: int


def read_dotenv(path: Path) -> dict[str, str]:
    """Return what a ``.env`` file sets; nothing if there is none. Raises SettingsError, which names the line."""
    return {name: assignment.value for name, assignment in read_assignments(path).items()}


def read_assignments(path: Path) -> dict[str, Assignment]:
    """Return what a ``.env`` file sets, with the lines; nothing if there is none. Raises SettingsError.

    Its message quotes nothing of the line: that may be a part of a secret.
    """
    if not path.is_file():
        return {}
    text = _read_text(path)
    for number, line in enumerate(text.split("\n"), start=1):
        if _HIDDEN_ENDS.search(line):
            raise SettingsError(f"{path}, line {number}: a character in it ends the line there; remove it")
    found: dict[str, Assignment] = {}
    for binding in parse_stream(io.StringIO(text)):
        # An empty line, or a comment, is neither.
        if binding.key is None and not binding.error:
            continue
        # What lies before a name belongs to it: empty lines.
        number = binding.original.line + _count_empty_lines(binding.original.string)
        if binding.key is None or binding.value is None or not _NAME.match(binding.key):
            raise SettingsError(f"{path}, line {number}: write NAME=value, and close every quotation mark")
        found[binding.key] = Assignment(binding.value, number)
    return found


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise SettingsError(f"{path} is longer than {MAX_BYTES // 1024} KiB: it is no file of settings; remove it")
        # Some editors begin a file with a mark, which would be a part of the first name.
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8: {error}") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None


def _count_empty_lines(text: str) -> int:
    return text[: len(text) - len(text.lstrip())].count("\n")


def locate(problem: str, path: Path, assignments: Mapping[str, Assignment]) -> str:
    """Return a sentence about settings with the line of the first one that the file sets in front."""
    for name in _NAME_IN_TEXT.findall(problem):
        if name in assignments:
            return f"{path}, line {assignments[name].line}: {problem}"
    return problem
