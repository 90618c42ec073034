from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from graycat.broker.client import broker_errors
from graycat.broker.connections import Command, RawConnectionPool
from graycat.broker.scripts import ScriptLoader, Scripts, digest, list_texts, load
from graycat.errors import BrokerUnavailable
from tests.support.broker import BrokerClient, connect_client
from tests.support.helpers import ROOT, Valkey, changed, outcome_of

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


@pytest.fixture
def box(broker: Valkey) -> Iterator[BrokerClient]:
    """Return a client of a user that may run scripts and load none."""
    rules = "on >box resetchannels ~* +@all -eval -script|load"
    broker.client.execute_command("ACL", "SETUSER", "box", "reset", *rules.split())
    address = f"unix://box:box@{broker.settings.broker_socket}"
    client = connect_client(changed(broker.settings, redis_url=address))
    yield client
    client.close()
    broker.client.acl_deluser("box")


def test_a_box_waits_until_home_has_loaded_a_script(box: BrokerClient, scripts: Scripts, tmp_path: Path) -> None:
    of_box = Scripts(box, tmp_path, ("note",))
    box.script_flush()
    assert not of_box.are_loaded()
    wait = outcome_of(lambda: of_box.run("note", ["notes"], ["a"]))
    assert {scripts.run("note", ["notes"], ["b"]), wait()} == {1, 2}
    assert of_box.are_loaded()


def test_a_script_that_home_does_not_have_is_given_up(
    box: BrokerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graycat.broker.scripts.HOME_LOADS_WITHIN_S", 0.3)
    (tmp_path / "new.lua").write_text("return 'of another version'")
    with pytest.raises(BrokerUnavailable), broker_errors():
        Scripts(box, tmp_path, ("new",)).run("new", [])


def test_home_loads_the_scripts_of_all_rooms(client: BrokerClient) -> None:
    client.script_flush()
    loader = ScriptLoader(RawConnectionPool(client))
    assert loader.load_missing()
    rooms = {path.parts[-3] for path in (ROOT / "graycat").glob("*/lua/*.lua")}
    for room in rooms:
        for path in (ROOT / "graycat" / room / "lua").glob("*.lua"):
            is_library = path.stem in {
                "prelude",
                "types",
                "deliveries",
                "deadline",
                "task",
                "queue_names",
                "turns",
                "stored",
                "usage",
                "conclude",
            }
            assert loader.has([digest(load(path))]) is not is_library, path


def test_a_lost_script_is_loaded_at_the_next_look(client: BrokerClient) -> None:
    loader = ScriptLoader(RawConnectionPool(client))
    assert loader.load_missing()
    client.script_flush()
    assert not loader.has([digest(list_texts()[0])])
    assert loader.load_missing()
    assert loader.has(map(digest, list_texts()))


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


@pytest.mark.parametrize(
    ("room", "name", "given", "wrong", "arguments"),
    [
        ("batches", "create", "-", "live", ("id", 5, "name", "x")),
        ("batches", "create", "- live", "all", ("id", 5, "name", "x")),
        ("batches", "create", "- live all", "of", ("id", 5, "name", "x")),
        ("batches", "set_state", "record", "live", ("id", "queued", "paused")),
        ("batches", "end", "record", "live", ("id", 1000, "queued")),
        ("batches", "relist", "", "live", ("x", 0, 5)),
        ("webhooks", "begin", "", "due", ("member", 5, 5)),
        ("webhooks", "give_up", "", "due", ("member", "failed", "{}")),
        ("webhooks", "settle", "", "due", ("member", "0", "failed", "", "{}")),
        ("webhooks", "give_up", "due delivery", "slot", ("member", "failed", "{}")),
        ("webhooks", "settle", "due delivery", "slot", ("member", "0", "failed", "", "{}")),
        ("webhooks", "enqueue", "due delivery", "control", ("member", 5, 5, 5, "message", 3)),
        ("webhooks", "enqueue", "due delivery control", "slot", ("member", 5, 5, 5, "message", 3)),
        ("schedules", "advance", "record", "waiting", ("1", "2", "missed", 5, 7)),
        ("schedules", "advance", "record waiting", "fires", ("1", "2", "missed", 5, 7)),
        ("schedules", "settle", "record waiting", "fires", ("7", "", "done", 5)),
    ],
)
def test_a_script_that_fails_by_a_key_of_another_type_has_written_nothing(
    client: BrokerClient, room: str, name: str, given: str, wrong: str, arguments: tuple[str | int, ...]
) -> None:
    """``given``: the keys before the wrong one, of which those that are there hold what the script looks for."""
    client.hset("record", mapping={"state": "queued", "mark": "1"})
    client.hset("delivery", mapping={"state": "pending", "attempts": 0, "next_ms": 0})
    client.zadd("due", {"member": 1})
    client.zadd("waiting", {"7": 7})
    client.zadd("slot", {"member": 1})
    client.delete(wrong)
    client.set(wrong, "another program's")
    script_keys = [*given.split(), wrong]
    if wrong == "due":
        script_keys += ["delivery", "slot"]
    elif room != "batches" or name == "create":
        script_keys += ["other", "another"][: 4 - len(script_keys)]
    scripts = Scripts(client, ROOT / "graycat" / room / "lua", (name,))
    before = {key: client.dump(key) for key in client.keys("*")}
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        scripts.run(name, script_keys, arguments)
    assert {key: client.dump(key) for key in client.keys("*")} == before


def test_an_item_of_a_batch_is_not_lost_between_two_states(client: BrokerClient) -> None:
    scripts = Scripts(client, ROOT / "graycat" / "batches" / "lua", ("move_item",))
    client.zadd("batch:waiting", {"1": 1})
    client.set("batch:queued", "another program's")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE zset batch:queued"):
        scripts.run("move_item", ["batch"], ["1", "waiting", 0, "queued", "{}"])
    assert client.zscore("batch:waiting", "1") == 1
