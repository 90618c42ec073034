from __future__ import annotations

import inspect

import pytest

from graycat.backup import contents
from graycat.broker import keys
from tests.support.backups import FOREIGN, GHOSTS

#: What a function of keys.py is given for an argument that is not a text; and functions that make no key.
ARGUMENTS = {"number": 1}
NO_KEYS = ("web_channel", "share_of_worker")


def names_of_keys() -> list[str]:
    """Return a name from each constant and each function of ``keys.py``."""
    names = [value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)]
    for name, make in inspect.getmembers(keys, inspect.isfunction):
        if make.__module__ == keys.__name__ and not name.startswith("_") and name not in NO_KEYS:
            made = make(*(ARGUMENTS.get(argument, "x") for argument in inspect.signature(make).parameters))
            names += [made] if isinstance(made, str) else made
    return [name for name in names if name.startswith(keys.PREFIX) and name != keys.PREFIX]


@pytest.mark.parametrize("name", names_of_keys())
def test_a_key_of_graycat_is_kept_or_left_out_on_purpose(name: str) -> None:
    rest = name.removeprefix(keys.PREFIX)
    assert rest.startswith((*contents.KEPT, *contents.DROPPED)), f"say in contents.py whether backups hold {name}"


@pytest.mark.parametrize(
    "name", [*GHOSTS, *FOREIGN, "unacked:control", contents.RESTORED, contents.STAGING + "key:llm"]
)
def test_ghosts_and_keys_of_others_are_left_out(name: str) -> None:
    assert contents.kind_of(name) is None


@pytest.mark.parametrize(
    "name", ["llm", "sd.batch", "llm:a model", "sd:@worker", "unacked:llm", "unacked_index", "unacked"]
)
def test_messages_are_kept(name: str) -> None:
    assert contents.kind_of(name) == contents.MESSAGES


def test_counts() -> None:
    sizes = [(keys.API_TOKENS, 2), ("graycat:tokens:used", 5), ("graycat:task:1", 9), ("graycat:task:2", 9)]
    counts = contents.count([*sizes, ("llm", 3), ("unacked:llm", 1), ("unacked_index:llm", 1), ("graycat:batches", 1)])
    assert contents.describe(counts) == "2 API tokens, 1 batches, 2 tasks, 4 queued messages"
    assert contents.describe(contents.count([])) == ""
