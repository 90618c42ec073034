"""On a broker whose memory is full nothing new begins, and all that there is can go on and end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from graycat.broker import keys
from graycat.broker.scripts import load
from graycat.errors import BrokerFull, TaskTimeout
from graycat.queue import records as module
from graycat.queue.models import Verdict
from graycat.queue.records import TaskRecords
from graycat.queue.stored import StoredBytes
from tests.support.broker import BrokerClient
from tests.support.helpers import accepted, claimed, eventually, started

MIB = 1024 * 1024


@pytest.fixture
def fill(client: BrokerClient) -> Iterator[Callable[[], None]]:
    """Return how to fill the broker, so that it refuses the smallest write; it has room again behind the test."""

    def fill_up() -> None:
        # More than any buffer of a client, which comes and goes.
        client.set("filler", b"x" * 4 * MIB)
        client.config_set("maxmemory", client.info("memory")["used_memory"] - MIB)
        with pytest.raises(redis.OutOfMemoryError):
            client.set("small", b"")

    yield fill_up
    client.config_set("maxmemory", 0)


def test_nothing_new_is_accepted(records: TaskRecords, client: BrokerClient, fill) -> None:
    accepted(records)
    fill()
    keys = set(client.keys())
    with pytest.raises(BrokerFull):
        accepted(records)
    assert set(client.keys()) == keys


@pytest.mark.parametrize("end", ["succeed", "fail", "finish_cancelled"])
def test_what_runs_goes_on_and_ends(records: TaskRecords, client: BrokerClient, fill, end: str) -> None:
    attempt = started(records)
    fill()
    assert records.publish(attempt, 1, [b"x" * 10_000, b"b"]) is False
    assert records.report_progress(attempt, b"{}") is Verdict.GO_ON
    assert records.renew(attempt.task_id, attempt.number) is Verdict.GO_ON
    if end == "succeed":
        assert records.succeed(attempt, 200, b"y" * 10_000)
    elif end == "fail":
        assert records.fail(attempt, TaskTimeout())
    else:
        assert records.finish_cancelled(attempt)
    events = records.events(attempt.task_id)
    assert [event.kind for event in events][:3] == ["started", "chunk", "chunk"]
    assert events[-1].terminal


def test_what_waits_begins_and_is_begun_anew(records: TaskRecords, fill) -> None:
    task_id = accepted(records, shown={})
    fill()
    attempt = claimed(records, task_id)
    assert records.release(attempt)
    again = records.restart(claimed(records, task_id))
    assert records.succeed(again, 200, b"{}")


def test_what_waits_is_cancelled_and_expires(records: TaskRecords, settings, client, fill) -> None:
    first, second = accepted(records), accepted(records)
    short = accepted(TaskRecords(client, settings), queue_ttl_s=0.001)
    fill()
    assert records.cancel(first)[0] == "cancelled"
    assert records.cancel_queued(second)
    eventually(lambda: records.expire(short))


def test_a_task_of_an_unknown_kind_fails(records: TaskRecords, fill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REFUSALS", 1)
    task_id = accepted(records)
    fill()
    assert records.refuse(task_id, "llm.completion")


def test_turns_go_on(records: TaskRecords, client: BrokerClient, fill) -> None:
    accepted(records)
    second = accepted(records)
    client.delete(keys.turn_key("llm", "tests"))
    client.delete("llm")
    fill()
    assert records.repair_turns(["llm"]) == 1
    assert second.encode() in client.lindex("llm", 0)


def test_what_has_ended_is_taken_back(records: TaskRecords, client: BrokerClient, fill) -> None:
    kept = accepted(records, owner="kept")
    records.cancel(accepted(records, owner="gone"))
    fill()
    StoredBytes(client).settle()
    assert kept
    assert client.hexists("graycat:stored", "kept")
    assert not client.hexists("graycat:stored", "gone")


def test_a_script_s_flags_are_in_the_very_first_line(tmp_path: Path) -> None:
    path = tmp_path / "one.lua"
    path.write_text("-- requires: broker/prelude\n-- flags: allow-oom\nreturn 1\n")
    assert load(path).startswith("#!lua flags=allow-oom\n-- Time is")
    path.write_text("-- flags: allow-oom\nreturn 1\n")
    assert load(path) == "#!lua flags=allow-oom\n-- flags: allow-oom\nreturn 1\n"
