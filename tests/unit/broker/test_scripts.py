from __future__ import annotations

from pathlib import Path

import pytest
import redis

from graycat.broker.client import broker_errors
from graycat.broker.connections import Command
from graycat.broker.scripts import Scripts, load
from tests.support.broker import BrokerClient
from tests.support.helpers import ROOT

#: A script that shows how often it ran, and in which order.
NOTE = "return redis.call('RPUSH', KEYS[1], ARGV[1])"


@pytest.fixture
def scripts(client: BrokerClient, tmp_path: Path) -> Scripts:
    """Return scripts of which there is one, ``note``."""
    (tmp_path / "note.lua").write_text(NOTE)
    return Scripts(client, tmp_path, ("note",))


def noting(scripts: Scripts, *words: str) -> list[Command]:
    """Return calls that note words in their order."""
    return [scripts.command("note", ["notes"], [word]) for word in words]


def test_a_script_s_error_is_raised(scripts: Scripts, client: BrokerClient) -> None:
    client.set("text", "x")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"), broker_errors():
        scripts.run_commands([*noting(scripts, "a"), scripts.command("note", ["text"], ["b"]), *noting(scripts, "c")])
    assert client.lrange("notes", 0, -1) == [b"a", b"c"]


def test_a_script_that_is_new_to_the_broker_is_loaded(scripts: Scripts, client: BrokerClient) -> None:
    client.script_flush()
    assert scripts.run_commands(noting(scripts, "a", "b")) == [1, 2]
    assert client.lrange("notes", 0, -1) == [b"a", b"b"]


def test_scripts_that_are_forgotten_in_the_middle_run_once_each(scripts: Scripts, client: BrokerClient) -> None:
    assert scripts.run("note", ["notes"], ["a"]) == 1
    replies = scripts.run_commands([*noting(scripts, "b"), ("SCRIPT", "FLUSH"), *noting(scripts, "c", "d")])
    assert replies == [2, b"OK", 3, 4]
    assert client.lrange("notes", 0, -1) == [b"a", b"b", b"c", b"d"]


def test_a_script_comes_behind_what_it_requires_in_that_order(tmp_path: Path) -> None:
    text = "-- requires: broker/prelude queue/task\nreturn now_ms()"
    (tmp_path / "asks.lua").write_text(text)
    folder = ROOT / "graycat"
    libraries = [folder / "broker" / "lua" / "prelude.lua", folder / "queue" / "lua" / "task.lua"]
    assert load(tmp_path / "asks.lua") == "".join(path.read_text() for path in libraries) + text


def test_a_script_that_requires_nothing_stands_alone(tmp_path: Path) -> None:
    (tmp_path / "note.lua").write_text(NOTE)
    assert load(tmp_path / "note.lua") == NOTE


@pytest.mark.parametrize("path", sorted((ROOT / "graycat").glob("*/lua/*.lua")), ids=lambda path: path.stem)
def test_the_broker_takes_every_script(client: BrokerClient, path: Path) -> None:
    assert client.script_load(load(path))
