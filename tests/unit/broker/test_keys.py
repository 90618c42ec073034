"""Key names stand in Lua and in Python: each is compared here."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from graycat.broker import keys
from tests.support.helpers import ROOT

#: All but the one that knows what keys were called once.
SCRIPTS = sorted(path for path in (ROOT / "graycat").glob("*/lua/*.lua") if path.stem != "migrate")
#: How a script writes the name of a key or channel; ``prefix`` and ``live`` are those of ``queue/lua/task.lua``. Of
#: channels it has a pattern.
IN_LUA = re.compile(r"\b(prefix|live) \.\. '([^']+)'|'graycat:([^'%]*)(?:%S\+)?'")


def names_in_python() -> set[str]:
    """Return what follows the prefix in each key, up to the first argument of a function."""
    found = {value for value in vars(keys).values() if isinstance(value, str) and value.startswith(keys.PREFIX)}
    for name, function in inspect.getmembers(keys, inspect.isfunction):
        if name.endswith(("_key", "_channel")):
            made = function(*["?" for _ in inspect.signature(function).parameters])
            found.add(made.partition("?")[0])
    return {name.removeprefix(keys.PREFIX) for name in found}


def names_in_lua(path: Path) -> set[str]:
    found = set()
    for variable, name, whole in IN_LUA.findall(path.read_text(encoding="utf-8")):
        found.add(whole or ("live." if variable == "live" else name))
    return found


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_script_names_no_key_that_python_does_not_know(path: Path) -> None:
    assert names_in_lua(path) <= names_in_python()


def test_the_scripts_name_keys_at_all() -> None:
    # What the test above compares is not empty.
    assert {"delivery:", "task:", "turn.", "players.", "failures."} <= set().union(*map(names_in_lua, SCRIPTS))


def test_a_delivery_lives_as_long_in_lua_as_in_python() -> None:
    text = (ROOT / "graycat" / "broker" / "lua" / "deliveries.lua").read_text(encoding="utf-8")
    (factors,) = re.findall(r"DELIVERY_TTL_S = (\d+) \* (\d+)", text)
    assert int(factors[0]) * int(factors[1]) == keys.DELIVERY_TTL_S


def test_two_owners_never_meet_in_one_key() -> None:
    assert keys.turn_key("llm:a", "b") != keys.turn_key("llm", "b:a")
    assert keys.parked_key("a", "b:c") != keys.parked_key("c:a", "b")
