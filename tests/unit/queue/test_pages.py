"""A task's events are read page by page, however many there are."""

from __future__ import annotations

import pytest

from graycat.broker import keys
from graycat.queue.errors import EventsGone
from graycat.queue.pages import FIRST_COUNT, MAX_COUNT, PAGE_BYTES
from tests.support.helpers import reads_of_streams, started

KIB = 1024


def long_task(records, client, count: int, size: int = 10) -> str:
    """Return the id of a running task that has published ``count`` chunks of ``size`` bytes."""
    attempt = started(records)
    with client.pipeline() as pipe:
        for number in range(1, count + 1):
            pipe.xadd(keys.events_key(attempt.task_id), {"kind": "chunk", "data": b"%0*d" % (size, number)})
        pipe.execute()
    task_id: str = attempt.task_id
    return task_id


def test_all_events_come_once_and_in_order(records, client) -> None:
    task_id = long_task(records, client, 2000)
    pages = list(records.event_pages(task_id))
    assert [len(page) for page in pages] == [
        FIRST_COUNT,
        MAX_COUNT,
        MAX_COUNT,
        MAX_COUNT,
        2001 - FIRST_COUNT - 3 * MAX_COUNT,
    ]
    events = [event for page in pages for event in page]
    assert [event.kind for event in events] == ["started", *["chunk"] * 2000]
    assert [int(event.data) for event in events[1:]] == list(range(1, 2001))
    assert records.events(task_id) == events
    assert records.events(task_id, events[700].id) == events[701:]


def test_a_page_of_large_events_has_few(records, client) -> None:
    task_id = long_task(records, client, 40, 100 * KIB)
    pages = list(records.event_pages(task_id))
    assert [len(page) for page in pages[1:4]] == [PAGE_BYTES // (100 * KIB)] * 3
    assert sum(map(len, pages)) == 41


def test_an_event_that_is_larger_than_a_page_is_one(records, client) -> None:
    task_id = long_task(records, client, FIRST_COUNT + 3, PAGE_BYTES)
    assert [len(page) for page in records.event_pages(task_id)] == [FIRST_COUNT, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("count", [0, FIRST_COUNT - 2, FIRST_COUNT - 1, FIRST_COUNT, FIRST_COUNT + MAX_COUNT - 1])
def test_the_end_of_a_page_may_be_the_end_of_all(records, client, count: int) -> None:
    task_id = long_task(records, client, count)
    assert len(records.events(task_id)) == count + 1
    assert records.events("nobody") == []


def test_more_events_may_come_behind_the_end(records, client) -> None:
    task_id = long_task(records, client, 3)
    pages = records.event_pages(task_id)
    assert (len(pages.read()), pages.is_at_end) == (4, True)
    assert (pages.read(), pages.is_at_end) == ([], True)
    client.xadd(keys.events_key(task_id), {"kind": "chunk", "data": b"4"})
    assert [event.data for event in pages.read()] == [b"4"]


@pytest.mark.parametrize("kept", [0, 100])
def test_events_that_are_dropped_before_they_are_read_are_an_error(records, client, kept: int) -> None:
    task_id = long_task(records, client, 1000)
    pages = records.event_pages(task_id)
    pages.read()
    client.xtrim(keys.events_key(task_id), maxlen=kept, approximate=False)
    with pytest.raises(EventsGone):
        pages.read()


def test_a_restart_drops_only_what_is_void(records, client) -> None:
    attempt = started(records)
    records.publish(attempt, 1, [b"%d" % number for number in range(100)])
    pages = records.event_pages(attempt.task_id)
    assert len(pages.read()) == FIRST_COUNT
    key = keys.events_key(attempt.task_id)
    again = client.xadd(key, {"kind": "started", "data": b"2"})
    client.xadd(key, {"kind": "restarted", "data": b"2"}, minid=again, approximate=False)
    assert [event.kind for event in pages.read()] == ["started", "restarted"]


def test_the_last_event_is_read_alone(records, client) -> None:
    task_id = long_task(records, client, 1000)
    before = reads_of_streams(client)
    last = records.last_event(task_id)
    assert int(last.data) == 1000
    assert reads_of_streams(client) - before == {"xrevrange": 1}
    assert records.last_event("nobody") is None
