from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from graycat import store
from graycat.errors import BrokerUnavailable
from graycat.recordreader import LIVE_FIELDS, RecordReader
from graycat.records import TaskRecords
from graycat.settings import Settings
from tests.unit.helpers import accepted, claimed, eventually, started


@pytest.fixture
def reader(client: store.Broker) -> RecordReader:
    return RecordReader(client)


def test_an_api_token_s_unfinished_tasks_are_listed_oldest_first(records: TaskRecords, reader: RecordReader) -> None:
    attempt = started(records, owner="game", kind="sd.txt2img", queue="sd")
    waiting = accepted(records, owner="game", kind="sd.img2img", queue="sd")
    accepted(records, owner="somebody else")
    live = reader.live("game")
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
        lambda records, attempt: records.cancelled(attempt, b'{"images": []}'),
        lambda records, attempt: records.release(attempt) and records.cancel(attempt.task_id),
    ],
)
def test_a_task_that_has_ended_is_not_live(records: TaskRecords, end: Callable[..., Any]) -> None:
    attempt = started(records)
    end(records, attempt)
    assert records.live("tests") == {}


def test_a_task_whose_record_is_gone_is_taken_off_the_list(records: TaskRecords, client: store.Broker) -> None:
    task_id = accepted(records)
    client.delete(store.record_key(task_id))
    assert records.live("tests") == {}
    assert client.zcard(store.owned_key("tests")) == 0


def test_who_has_no_tasks_has_none(reader: RecordReader) -> None:
    assert (reader.live("nobody"), reader.listed("nobody", 1e15, 10)) == ({}, [])
    assert (reader.preview("nobody"), reader.body("nobody"), reader.mean_ms("sd.txt2img")) == (None, None, None)


def test_only_the_newest_preview_is_kept_and_not_for_ever(records: TaskRecords, client: store.Broker) -> None:
    for image in (b"first", b"second"):
        records.keep_preview("a-task", image)
    assert records.preview("a-task") == b"second"
    client.pexpire(store.preview_key("a-task"), 1)
    eventually(lambda: records.preview("a-task") is None)


def test_a_preview_outlives_its_refresh_by_a_minute(records: TaskRecords, client: store.Broker) -> None:
    records.keep_preview("a-task", b"image")
    assert 50_000 < client.pttl(store.preview_key("a-task")) <= 60_000


def test_tasks_that_are_shown_are_listed_newest_first_and_by_pages(records: TaskRecords) -> None:
    ids = [accepted(records, owner="game", shown={}) for _ in range(3)]
    accepted(records, owner="game")
    page = records.listed("game", 1e15, 2)
    assert len(page) == 2
    assert {task_id for task_id, _ in records.listed("game", 1e15, 10)} == set(ids)
    assert records.listed("game", 0, 10) == []
    assert all(records.was_listed("game", task_id) for task_id in ids)
    assert not records.was_listed("somebody else", ids[0])


def test_the_body_of_a_task_that_is_shown_is_kept(records: TaskRecords) -> None:
    for shown, kept in (({"title": "fox"}, b"{}"), (None, None)):
        attempt = started(records, body=b"{}", shown=shown)
        records.succeed(attempt, 200, b"{}")
        assert records.body(attempt.task_id) == kept


def test_how_long_a_kind_takes_is_known_once_one_has_succeeded(records: TaskRecords) -> None:
    attempt = claimed(records, accepted(records, kind="sd.txt2img"))
    records.succeed(attempt, 200, b"{}")
    mean_ms = records.mean_ms("sd.txt2img")
    assert mean_ms is not None
    assert 0 <= mean_ms < 10_000
    assert records.mean_ms("sd.img2img") is None


def test_without_a_broker_nothing_can_be_read(no_broker: Settings) -> None:
    reader = RecordReader(store.connect(no_broker))
    for call in (reader.get, reader.live, reader.preview, reader.events, reader.body):
        with pytest.raises(BrokerUnavailable):
            call("a-task")
