"""Documents that people write into files, read with plain words for what keeps them from being read.

Python's own messages name its codecs, error numbers and settings, and YAML's have several lines.
"""

from __future__ import annotations

import codecs
import json
import tomllib
from pathlib import Path
from typing import Any

import yaml

from graycat.bounds.unreadable import MAX_DIGITS, explain


class RepeatedField(ValueError):
    """Raised if an object of JSON or YAML has two fields of one name: readers take the last one, and drop the other."""


class _YamlLoader(yaml.SafeLoader):
    """Reads YAML as ``yaml.safe_load`` does, but for fields that are there twice, which YAML 1.2 (3.2.1.3) forbids."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return the node of an object. Raises RepeatedField, which names the line of the second field.

        Later, when values are made of nodes, what merge keys (``<<``) bring in can no longer be told apart.
        """
        node = super().compose_mapping_node(anchor)
        names = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE_TAG:
                continue
            # Without the tag: a field 1 and a field "1" are one in JSON, as which a spec is kept.
            if key.value in names:
                raise RepeatedField(f"line {key.start_mark.line + 1}: {_describe_repeated(key.value)}")
            names.add(key.value)
        return node


FORMATS = ("toml", "yaml", "json")
_MERGE_TAG = "tag:yaml.org,2002:merge"


def read_text_file(path: Path) -> str:
    """Return the text of a file; a byte order mark, as editors on Windows write it, is left out.

    Raises ValueError, which says what is wrong, but not the file's name.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(describe_file_error(error)) from None
    return decode(raw)


def decode(raw: bytes) -> str:
    """Return the text of a file's bytes, as ``read_text_file`` does. Raises ValueError."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(describe_file_error(error)) from None


def describe_file_error(error: Exception) -> str:
    """Return why a file cannot be read, without Python's own words for the usual reasons."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, UnicodeDecodeError):
        # Windows' Notepad calls it "Unicode", and PowerShell 5 writes it.
        if error.start == 0 and error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "it is in UTF-16; save it as UTF-8"
        return f"byte {error.start + 1} is not in UTF-8; save it as UTF-8"
    return str(error)


def refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of these fields; ``object_pairs_hook`` of ``json.loads``. Raises RepeatedField."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise RepeatedField(_describe_repeated(repeated))
    return fields


def _describe_repeated(name: str) -> str:
    return f"an object has the field {name[:100]!r} twice, and only one of them would count"


def parse(text: str, format: str) -> Any:
    """Return the value in a text of TOML, YAML or JSON. Raises ValueError, which says in one line what is wrong."""
    try:
        if format == "toml":
            return tomllib.loads(text)
        if format == "yaml":
            return yaml.load(text, Loader=_YamlLoader)  # noqa: S506 (a SafeLoader)
        return json.loads(text, object_pairs_hook=refuse_repeated)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except RepeatedField:
        raise
    except yaml.YAMLError as error:
        raise ValueError(_explain_yaml(error)) from None
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        # PyYAML lets out whatever a value makes of its constructors: KeyError for !!bool x.
        raise ValueError(_explain(text, format, error)) from None


def _explain(text: str, format: str, error: Exception) -> str:
    if format == "json":
        # A text may hold what UTF-8 cannot write; the place is the same with another character in its stead.
        problem = explain(text.encode(errors="replace")).removeprefix("the body is not JSON: ")
        return problem.replace("the body", "the text")
    if "int_max_str_digits" in str(error):
        return f"it holds a number of more than {MAX_DIGITS} digits"
    if format == "yaml":
        return "it has a date that does not exist, or a value that is not what its tag (like !!int) says"
    return str(error)


def _explain_yaml(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        # Characters that YAML does not have; the message has a second line with Python's words for where.
        return str(error).partition("\n")[0]
    place = f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
    if isinstance(error.problem, str) and "codec" not in error.problem:
        return f"{place}: {error.problem}"
    return f"{place}: the value is not what its tag says"
