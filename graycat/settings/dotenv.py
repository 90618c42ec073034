"""The ``.env`` file of the working directory: lines of ``NAME=value``, read by honcho."""

from __future__ import annotations

import re
from pathlib import Path

import honcho.environ

from graycat.errors import SettingsError

#: What Python takes for the end of a line and no editor does: behind it, a value would be cut off without a word.
_HIDDEN_ENDS = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")


def read_dotenv(path: Path) -> dict[str, str]:
    """Return what a ``.env`` file sets; nothing if there is none. Raises SettingsError, which names the line."""
    if not path.is_file():
        return {}
    try:
        # Some editors begin a file with a mark, which would be a part of the first name.
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8: {error}") from None
    values: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if _HIDDEN_ENDS.search(line):
            raise SettingsError(f"{path}, line {number}: a character in it ends the line there; remove it")
        try:
            values.update(honcho.environ.parse(line))
        except ValueError as error:
            raise SettingsError(f"{path}, line {number}: {error}") from None
    return values
