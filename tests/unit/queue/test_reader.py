from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from graycat.broker import keys
from graycat.broker.client import connect
from graycat.errors import BrokerUnavailable
from graycat.queue.models import ReleaseReason
from graycat.queue.reader import FIELDS, LIVE_FIELDS, RecordReader
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from tests.support.broker import BrokerClient
from tests.support.helpers import accepted, claimed, eventually, started

#: In front of every task of a list.
NEWEST = (10**15, "")


@pytest.fixture
def reader(client: BrokerClient) -> RecordReader:
    return RecordReader(client)


def test_an_api_token_s_unfinished_tasks_are_listed_oldest_first(records: TaskRecords, reader: RecordReader) -> None:
    attempt = started(records, owner="game", kind="sd.txt2img", queue="sd")
    waiting = accepted(records, owner="game", kind="sd.img2img", queue="sd")
    accepted(records, owner="somebody else")
    live = reader.unfinished("game")
    # The same millisecond may have both.
    assert set(live) == {attempt.task_id, waiting}
    assert [int(task["submitted_ms"]) for task in live.values()] == sorted(
        int(t["submitted_ms"]) for t in live.values()
    )
    assert all(set(task) == set(LIVE_FIELDS) for task in live.values())
    running, queued = live[attempt.task_id], live[waiting]
    assert (running["state"], running["kind"], running["queue"]) == ("running", "sd.txt2img", "sd")
    assert (queued["state"], queued["started_ms"], queued["progress"], queued["cancel"]) == ("queued", "", "", "")


@pytest.mark.parametrize(
    "end",
    [
        lambda records, attempt: records.succeed(attempt, 200, b"{}"),
        lambda records, attempt: records.finish_cancelled(attempt, b'{"images": []}'),
        lambda records, attempt: records.release(attempt) and records.cancel(attempt.task_id),
    ],
)
def test_a_task_that_has_ended_is_not_live(records: TaskRecords, end: Callable[..., Any]) -> None:
    attempt = started(records)
    end(records, attempt)
    assert records.unfinished("tests") == {}


def test_a_task_whose_record_is_gone_is_taken_off_the_list(records: TaskRecords, client: BrokerClient) -> None:
    task_id = accepted(records)
    client.delete(keys.record_key(task_id))
    assert records.unfinished("tests") == {}
    assert client.zcard(keys.owned_key("llm", "tests")) == 0


def test_who_has_no_tasks_has_none(reader: RecordReader) -> None:
    assert (reader.unfinished("nobody"), reader.list_tasks("nobody", NEWEST, 10)) == ({}, [])
    assert (reader.preview("nobody"), reader.body("nobody"), reader.mean_duration_ms("sd.txt2img")) == (
        None,
        None,
        None,
    )


def test_only_the_newest_preview_is_kept_and_not_for_ever(records: TaskRecords, client: BrokerClient) -> None:
    for image in (b"first", b"second"):
        records.save_preview("a-task", image)
    assert records.preview("a-task") == b"second"
    client.pexpire(keys.preview_key("a-task"), 1)
    eventually(lambda: records.preview("a-task") is None)


def test_a_preview_outlives_its_refresh_by_a_minute(records: TaskRecords, client: BrokerClient) -> None:
    records.save_preview("a-task", b"image")
    assert 50_000 < client.pttl(keys.preview_key("a-task")) <= 60_000


def test_the_body_of_a_task_that_is_shown_is_kept(records: TaskRecords) -> None:
    for shown, kept in (({"title": "fox"}, b"{}"), (None, None)):
        attempt = started(records, body=b"{}", shown=shown)
        records.finish_cancelled(attempt)
        assert records.body(attempt.task_id) == kept


def test_bytes_that_are_no_text_hide_no_task(records: TaskRecords, client: BrokerClient) -> None:
    task_ids = [accepted(records), accepted(records)]
    client.hset(keys.record_key(task_ids[0]), mapping={"progress": b"\xff", "kind": b"\xff"})
    assert set(records.unfinished("tests")) == set(task_ids)
    assert records.fields(task_ids[0], "progress", "state") == ["\ufffd", "queued"]
    assert records.get(task_ids[0])["progress"] == "\ufffd"


def test_a_record_is_read_without_its_body(records: TaskRecords, client: BrokerClient) -> None:
    # The body of an image that is to be changed may have 64 MB, and its caller asks for the task once a second.
    task_id = accepted(records, body=b"x" * 1_000_000, shown={"priority": "batch"})
    before = client.info("stats")["total_net_output_bytes"]
    record = records.get(task_id)
    assert client.info("stats")["total_net_output_bytes"] - before < 100_000
    assert (record["kind"], record["state"], record["priority"]) == ("llm.completion", "queued", "batch")


def test_a_record_is_read_with_all_other_fields_that_it_may_have(records: TaskRecords, client: BrokerClient) -> None:
    shown = dict.fromkeys(("priority", "batch", "alias", "digest", "retry_of"), "1")
    task_id = accepted(records, shown=shown, metadata="{}", channel="web:1")
    records.subscribe(task_id, "web:2")
    attempt = claimed(records, task_id)
    records.report_progress(attempt, b"{}")
    records.publish(attempt, 1, [b"{}"])
    records.release(attempt, ReleaseReason.ENGINE_DIED_ALONE)
    records.cancel(task_id)
    found = client.hkeys(keys.record_key(task_id))
    assert {name.decode() for name in found} - {"body", "message"} <= set(FIELDS)
    assert set(records.get(task_id)) == {name.decode() for name in found} - {"body", "message"}


def test_how_long_a_kind_takes_is_known_once_one_has_succeeded(records: TaskRecords) -> None:
    attempt = claimed(records, accepted(records, kind="sd.txt2img"))
    records.succeed(attempt, 200, b"{}")
    mean_ms = records.mean_duration_ms("sd.txt2img")
    assert mean_ms is not None
    assert 0 <= mean_ms < 10_000
    assert records.mean_duration_ms("sd.img2img") is None


def listed_at(client: BrokerClient, times: dict[str, int], owner: str = "tests") -> None:
    """Put tasks on an owner's list, as if they had been submitted then."""
    client.zadd(keys.listed_key(owner), times)


def test_the_list_is_newest_first(reader, client) -> None:
    listed_at(client, {"a": 1, "b": 3, "c": 2})
    assert reader.list_tasks("tests", NEWEST, 10) == [("b", 3), ("c", 2), ("a", 1)]


def test_each_owner_has_a_list_of_its_own(reader, client) -> None:
    listed_at(client, {"a": 1})
    listed_at(client, {"b": 2}, "game")
    assert reader.list_tasks("game", NEWEST, 10) == [("b", 2)]
    assert reader.list_tasks("nobody", NEWEST, 10) == []


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_pages_of_tasks_of_one_millisecond_miss_none_and_repeat_none(reader, client, count: int) -> None:
    listed_at(client, {f"t{n:02}": 5 for n in range(20)} | {"older": 4, "newer": 6})
    found: list[str] = []
    before = NEWEST
    while page := reader.list_tasks("tests", before, count):
        assert len(page) <= count
        found += [task_id for task_id, _ in page]
        task_id, at_ms = page[-1]
        before = (at_ms, task_id)
    assert found == ["newer", *(f"t{n:02}" for n in reversed(range(20))), "older"]


def test_only_tasks_that_are_asked_for_by_their_ids_are_on_the_list(reader, records) -> None:
    blocking, shown = accepted(records), accepted(records, shown={})
    assert [task_id for task_id, _ in reader.list_tasks("tests", NEWEST, 10)] == [shown]
    assert (reader.was_listed("tests", shown), reader.was_listed("tests", blocking)) == (True, False)
    assert not reader.was_listed("game", shown)


def test_a_task_is_on_the_list_when_its_record_is_gone(reader, records, client) -> None:
    task_id = accepted(records, shown={})
    client.delete(keys.record_key(task_id))
    assert reader.was_listed("tests", task_id)


def test_the_mean_follows_what_tasks_take(reader, records, client) -> None:
    assert reader.mean_duration_ms("llm.completion") is None
    client.hset(keys.means_key("llm"), "llm.completion", 1000)
    records.succeed(started(records), 200, b"{}")
    mean_ms = reader.mean_duration_ms("llm.completion")
    assert mean_ms is not None
    assert 800 <= mean_ms < 900


def test_the_mean_of_a_queue_is_that_of_all_its_tasks(records, client) -> None:
    client.hset(keys.means_key("llm"), "llm", 1000)
    records.succeed(started(records), 200, b"{}")
    records.succeed(started(records, queue="llm.batch"), 200, b"{}")
    means = {name: int(value) for name, value in client.hgetall(keys.means_key("llm")).items()}
    assert 950 <= means[b"llm"] < 1000
    assert means[b"llm.batch"] < 900


def test_what_fails_does_not_change_the_mean(reader, records) -> None:
    records.finish_cancelled(started(records))
    assert reader.mean_duration_ms("llm.completion") is None


def test_events_behind_an_id_are_those_that_came_later(reader, records) -> None:
    attempt = started(records)
    records.publish(attempt, 1, [b"a", b"b"])
    everything = reader.events(attempt.task_id)
    assert reader.events(attempt.task_id, everything[1].id) == everything[2:]
    eventually(lambda: reader.events(attempt.task_id, "9999999999999999999-1") == [])


def test_without_a_broker_nothing_can_be_read(no_broker: Settings) -> None:
    reader = RecordReader(connect(no_broker))
    for call in (reader.get, reader.unfinished, reader.preview, reader.events, reader.body):
        with pytest.raises(BrokerUnavailable):
            call("a-task")
    with pytest.raises(BrokerUnavailable):
        reader.list_tasks("game", NEWEST, 1)
    with pytest.raises(BrokerUnavailable):
        reader.was_listed("game", "a-task")


def test_fields_of_a_record_are_read_without_the_rest(records: TaskRecords) -> None:
    task_id = accepted(records)
    assert records.fields(task_id, "state", "nothing", "queue") == ["queued", "", "llm"]
    assert records.fields("nobody", "state") == [""]
