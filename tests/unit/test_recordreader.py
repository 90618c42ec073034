from __future__ import annotations

import pytest

from graycat import store
from graycat.errors import BrokerUnavailable
from graycat.recordreader import RecordReader
from graycat.settings import Settings
from tests.unit.helpers import accepted, claimed, eventually, started

NEWEST = (10**15, "")


@pytest.fixture
def reader(client: store.Broker) -> RecordReader:
    return RecordReader(client)


def listed_at(client: store.Broker, times: dict[str, int], owner: str = "tests") -> None:
    """Put tasks on an owner's list, as if they had been submitted then."""
    client.zadd(store.listed_key(owner), times)


def test_the_list_is_newest_first(reader, client) -> None:
    listed_at(client, {"a": 1, "b": 3, "c": 2})
    assert reader.listed("tests", NEWEST, 10) == [("b", 3), ("c", 2), ("a", 1)]


def test_each_owner_has_a_list_of_its_own(reader, client) -> None:
    listed_at(client, {"a": 1})
    listed_at(client, {"b": 2}, "game")
    assert reader.listed("game", NEWEST, 10) == [("b", 2)]
    assert reader.listed("nobody", NEWEST, 10) == []


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_pages_of_tasks_of_one_millisecond_miss_none_and_repeat_none(reader, client, count: int) -> None:
    listed_at(client, {f"t{n:02}": 5 for n in range(20)} | {"older": 4, "newer": 6})
    found: list[str] = []
    before = NEWEST
    while page := reader.listed("tests", before, count):
        assert len(page) <= count
        found += [task_id for task_id, _ in page]
        task_id, at_ms = page[-1]
        before = (at_ms, task_id)
    assert found == ["newer", *(f"t{n:02}" for n in reversed(range(20))), "older"]


def test_only_tasks_that_are_asked_for_by_their_ids_are_on_the_list(reader, records) -> None:
    blocking, shown = accepted(records), accepted(records, shown={})
    assert [task_id for task_id, _ in reader.listed("tests", NEWEST, 10)] == [shown]
    assert (reader.was_listed("tests", shown), reader.was_listed("tests", blocking)) == (True, False)
    assert not reader.was_listed("game", shown)


def test_a_task_is_on_the_list_when_its_record_is_gone(reader, records, client) -> None:
    task_id = accepted(records, shown={})
    client.delete(store.record_key(task_id))
    assert reader.was_listed("tests", task_id)


def test_live_tasks_are_those_that_have_not_ended(reader, records, client) -> None:
    first, second, gone, over = (accepted(records) for _ in range(4))
    records.cancel(over)
    client.delete(store.record_key(gone))
    claimed(records, second)
    assert {task_id: task["state"] for task_id, task in reader.live("tests").items()} == {
        first: "queued",
        second: "running",
    }
    assert client.zscore(store.owned_key("tests"), gone) is None


def test_a_body_is_kept_for_a_task_that_may_be_tried_again(reader, records) -> None:
    kept, dropped = started(records, shown={}, body=b"{}"), started(records, body=b"{}")
    for attempt in (kept, dropped):
        records.succeed(attempt, 200, b"{}")
    assert (reader.body(kept.task_id), reader.body(dropped.task_id), reader.body("nobody")) == (b"{}", None, None)


def test_the_mean_follows_what_tasks_take(reader, records, client) -> None:
    assert reader.mean_ms("llm.completion") is None
    client.hset(store.MEANS, "llm.completion", 1000)
    records.succeed(started(records), 200, b"{}")
    mean_ms = reader.mean_ms("llm.completion")
    assert mean_ms is not None
    assert 800 <= mean_ms < 900


def test_what_fails_does_not_change_the_mean(reader, records) -> None:
    records.cancelled(started(records))
    assert reader.mean_ms("llm.completion") is None


def test_the_newest_preview_is_shown(reader, records) -> None:
    assert reader.preview("a") is None
    records.keep_preview("a", b"old")
    records.keep_preview("a", b"new")
    assert reader.preview("a") == b"new"


def test_events_behind_an_id_are_those_that_came_later(reader, records) -> None:
    attempt = started(records)
    records.publish(attempt, 1, [b"a", b"b"])
    everything = reader.events(attempt.task_id)
    assert reader.events(attempt.task_id, everything[1].id) == everything[2:]
    eventually(lambda: reader.events(attempt.task_id, "9999999999999999999-1") == [])


def test_without_a_broker_nothing_can_be_read(no_broker: Settings) -> None:
    reader = RecordReader(store.connect(no_broker))
    for read in (
        lambda: reader.get("a"),
        lambda: reader.events("a"),
        lambda: reader.live("a"),
        lambda: reader.listed("a", NEWEST, 1),
        lambda: reader.was_listed("a", "b"),
        lambda: reader.body("a"),
        lambda: reader.mean_ms("a"),
        lambda: reader.preview("a"),
    ):
        with pytest.raises(BrokerUnavailable):
            read()
