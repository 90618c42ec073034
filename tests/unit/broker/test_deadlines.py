"""What a caller has given up is not done by a broker that goes on later."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from graycat.auth.minted import Grant, MintedTokens
from graycat.auth.signing import SigningKey
from graycat.batches.records import BatchRecords
from graycat.broker.client import connect
from graycat.broker.scripts import Scripts
from graycat.errors import BrokerUnavailable
from graycat.queue.records import TaskRecords
from graycat.schedules.definition import Schedule
from graycat.schedules.records import ScheduleRecords
from tests.support.broker import BrokerClient
from tests.support.helpers import Stopwatch, Valkey, eventually, new_task

SPEC = {"name": "night", "items": ["a cat"]}
#: Seconds that a client of these tests waits for a reply.
REPLY_S = 0.2
#: A script as those of the rooms are: it creates something.
CREATE = "-- requires: broker/prelude broker/deadline\nreturn redis.call('RPUSH', KEYS[1], unpack(ARGV))"


Create = Callable[[], object]


def tasks(client: Any, valkey: Valkey) -> Create:
    """Return how to create a task."""
    records = TaskRecords(client, valkey.settings)
    return lambda: records.create(new_task(), b"{}")


def batches(client: Any, valkey: Valkey) -> Create:
    """Return how to create a batch."""
    records = BatchRecords(client, valkey.settings)
    return lambda: records.submit(SPEC, "tests")


def schedules(client: Any, valkey: Valkey) -> Create:
    """Return how to create a schedule."""
    records = ScheduleRecords(client, valkey.settings)
    schedule = Schedule.read({"name": "nightly", "cron": "0 3 * * *", "spec": SPEC}, "tests", valkey.settings)
    return lambda: records.put(schedule)


def tokens(client: Any, valkey: Valkey) -> Create:
    """Return how to mint an API token in a broker that hangs, if it does, when it has told which there are."""
    empty: Any = Empty(client)
    minted = MintedTokens(empty, SigningKey("a key of the tests"))
    return lambda: minted.mint(Grant("game"))


class Empty:
    """A broker that says without being asked that there are no API tokens."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def hgetall(self, _name: str) -> dict[bytes, bytes]:
        return {}


@pytest.mark.parametrize("creator", [tasks, batches, schedules, tokens])
def test_what_a_silent_broker_did_not_confirm_is_not_created_when_it_goes_on(
    mortal_broker: Valkey, creator: Callable[[Any, Valkey], Create]
) -> None:
    client: Any = connect(mortal_broker.settings, timeout_s=REPLY_S)
    create = creator(client, mortal_broker)
    create()
    mortal_broker.client.flushall()
    server = mortal_broker.client.info("server")["process_id"]
    before = calls_of_scripts(mortal_broker)
    os.kill(server, signal.SIGSTOP)
    try:
        with pytest.raises(BrokerUnavailable):
            create()
        watch = Stopwatch()
        eventually(lambda: watch.seconds > 3 * REPLY_S)
    finally:
        os.kill(server, signal.SIGCONT)
    eventually(lambda: calls_of_scripts(mortal_broker) > before)
    assert mortal_broker.client.keys("*") == []
    create()
    assert mortal_broker.client.keys("*") != []
    client.close()


def calls_of_scripts(valkey: Valkey) -> int:
    """Return how many scripts the broker has run, or refused to."""
    calls: int = valkey.client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
    return calls


@pytest.fixture
def scripts(client: BrokerClient, tmp_path: Path) -> Scripts:
    """Return scripts of which one creates something."""
    (tmp_path / "create.lua").write_text(CREATE)
    return Scripts(client, tmp_path, ("create",))


def test_the_deadline_is_not_among_the_arguments(scripts: Scripts, client: BrokerClient) -> None:
    assert scripts.run("create", ["made"], ["a", "b"]) == 2
    assert client.lrange("made", 0, -1) == [b"a", b"b"]


@pytest.mark.parametrize("set_by_ms", [-3_600_000, 3_600_000])
def test_a_broker_whose_clock_was_set_is_asked_for_it_again(
    scripts: Scripts, client: BrokerClient, set_by_ms: int
) -> None:
    scripts.run("create", ["made"], ["a"])
    ahead_ms = scripts._deadlines._ahead_ms
    assert ahead_ms is not None
    scripts._deadlines._ahead_ms = ahead_ms + set_by_ms
    commands = [scripts.command("create", ["made"], [word]) for word in ("b", "c")]
    assert scripts.run_commands(commands) == [2, 3]
    assert client.lrange("made", 0, -1) == [b"a", b"b", b"c"]


def test_a_command_that_comes_too_late_is_not_run(
    scripts: Scripts, client: BrokerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts.run("create", ["made"], ["a"])
    command = scripts.command("create", ["made"], ["b"])
    late = (*command[:-1], 1)
    monkeypatch.setattr(scripts._deadlines, "gives_up", lambda _: True)
    with pytest.raises(redis.TimeoutError):
        scripts.run_commands([late])
    monkeypatch.undo()
    monkeypatch.setattr(scripts._deadlines, "next_ms", lambda: 1)
    with pytest.raises(redis.TimeoutError):
        scripts.run_commands([late])
    assert client.lrange("made", 0, -1) == [b"a"]
