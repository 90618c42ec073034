"""The names of loops in ``graycat.loops.names``, in the code and in docs/loops.md are the same."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from graycat.loops import names
from tests.support.helpers import ROOT

SOURCES = sorted((ROOT / "graycat").glob("**/*.py"))
#: What takes the name of a loop as its first argument. A thread's guard takes only those of THREADS.
THREADS = {"GuardedThread", "PeriodicThread"}
PLACES = {"guarded", "note", "guard", "set_aside_key", "set_aside_lock", "labels"}
ROW = re.compile(r"^\| `([^`]+)` \| `([^`]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)

#: Threads that serve one caller or one moment, by their file and name: they end with it, so nothing restarts them.
SERVE_ONE = {
    # The end of this worker, and what it logs last; the cancel of a request that was given up.
    ("worker/stopping.py", "stop deadline"),
    ("worker/stopping.py", "last warning"),
    ("web/streaming/requests.py", "abandon"),
    # Of one connection; the hub connects again if it ends.
    ("web/streaming/hub.py", "hub-ping"),
    # Of one render, whose task waits for it.
    ("tasks/sd.py", "watcher"),
    # Of one engine's files. It tries again by itself, and the engine's trouble says how it is.
    ("engines/models/background.py", "downloads"),
    # Of one name that is looked up, with a deadline.
    ("webhooks/http.py", "resolver"),
    # They do something once: at the end of a web process, and when everything is up.
    ("cli/web.py", "shutdown-answer"),
    ("cli/up.py", ""),
    # The guard's own.
    ("loops/threads.py", ""),
}


class Use(NamedTuple):
    """A call with a name: what is called, the name ('' if it is not written there), and the file."""

    function: str
    name: str
    file: str


def called(node: ast.Call) -> str:
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def text_of(node: ast.expr | None) -> str:
    return str(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


@cache
def calls() -> list[tuple[ast.Call, str]]:
    found = []
    for path in SOURCES:
        file = path.relative_to(ROOT / "graycat").as_posix()
        nodes = ast.walk(ast.parse(path.read_text()))
        found += [(node, file) for node in nodes if isinstance(node, ast.Call)]
    return found


def find_uses() -> Iterator[Use]:
    for node, file in calls():
        function = called(node)
        if function in THREADS | PLACES and node.args:
            # The name is the first argument but for these two, whose first one is a client.
            name = text_of(node.args[function in ("set_aside_key", "set_aside_lock")])
            if function != "labels" or "UNEXPECTED" in ast.dump(node.func):
                yield Use(function, name, file)


def find_threads() -> Iterator[tuple[str, str]]:
    for node, file in calls():
        if called(node) == "Thread":
            arguments = {keyword.arg: keyword.value for keyword in node.keywords}
            yield file, text_of(arguments.get("name"))


def rows() -> dict[str, tuple[str, ...]]:
    found = ROW.findall((ROOT / "docs" / "loops.md").read_text())
    return {name: tuple(cells) for name, *cells in found}


@cache
def uses() -> list[Use]:
    return list(find_uses())


def test_every_name_in_the_code_is_registered() -> None:
    assert {use for use in uses() if use.name and use.name not in names.NAMES} == set()
    assert {use for use in uses() if use.function in THREADS and use.name not in {"", *names.THREADS}} == set()


def test_every_registered_name_is_in_the_code() -> None:
    assert {use.name for use in uses() if use.function in THREADS} - {""} == set(names.THREADS)
    assert {use.name for use in uses() if use.function in PLACES} >= names.PLACES


def test_every_other_thread_serves_one() -> None:
    assert set(find_threads()) == SERVE_ONE


def test_the_table_has_a_row_for_each_loop_and_no_other() -> None:
    assert rows().keys() == names.NAMES


@pytest.mark.parametrize("name", sorted(names.NAMES))
def test_a_row_names_the_file_of_its_loop(name: str) -> None:
    file = Path(rows()[name][0])
    assert (ROOT / file).is_file()
    files = {f"graycat/{use.file}" for use in uses() if use.name == name}
    if name not in names.CELERY:
        assert file.as_posix() in files


@pytest.mark.parametrize("name", sorted(names.THREADS))
def test_a_row_says_when_a_thread_is_stuck(name: str) -> None:
    assert f"{names.THREADS[name].stuck_after_s:g} s" in rows()[name][4]
