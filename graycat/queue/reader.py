"""Reads of task records, event streams and lists, which change nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable

import redis

from graycat import families
from graycat.broker import keys
from graycat.broker.client import broker_errors, is_unusable_key
from graycat.broker.protocol import Broker
from graycat.families import FAMILIES
from graycat.loops.unexpected import note
from graycat.queue import ids
from graycat.queue.events import TaskEvent
from graycat.queue.pages import EventPages
from graycat.queue.positions import Surroundings

#: Fields of a record that ``unfinished`` returns.
LIVE_FIELDS = ("state", "kind", "started_ms", "progress", "cancel", "queue", "submitted_ms")
#: Fields of a record that ``get`` returns: all that graycat writes, but the body and the message of a parked task. A
#: body may have 64 MB, and callers poll.
FIELDS = (
    *("kind", "mode", "queue", "owner", "state", "attempt", "priority", "metadata", "alias", "digest", "retry_of"),
    *("request_id", "traceparent", "channels", "followed", "hook", "cancel", "worker", "progress", "status", "size"),
    *("submitted_ms", "enqueued_ms", "claimed_ms", "started_ms", "first_event_ms", "finished_ms", "lease_ms"),
    *("queue_deadline_ms", "queue_ttl_ms", "exec_timeout_ms", "keep_record_ms", "keep_events_ms", "keep_body"),
    *("batch", "charged", "deaths", "deaths_alone", "refusals", "left_message", "last_event", "workflow"),
    *("engine_ms", "prompt_tokens", "completion_tokens", "images"),
)

#: Fields that are numbers, whoever has written the record.
_NUMBERS = frozenset(
    {
        *("attempt", "status", "size", "submitted_ms", "enqueued_ms", "claimed_ms", "started_ms"),
        *("first_event_ms", "finished_ms", "queue_deadline_ms", "queue_ttl_ms", "exec_timeout_ms", "lease_ms"),
    }
)


def _is_number(text: bytes) -> bool:
    return text.isdigit() and len(text) <= 15


class RecordReader:
    """The tasks' records, event streams and lists in the broker."""

    def __init__(self, client: Broker) -> None:
        self._client = client

    def get(self, task_id: str) -> dict[str, str]:
        """Return a task's record without its body; empty if there is no such task, or another program's key instead."""
        try:
            with broker_errors():
                row = self._client.hmget(keys.record_key(task_id), FIELDS)
        except redis.ResponseError as error:
            if is_unusable_key(error):
                note("records", error)
            return {}
        fields = {name: value for name, value in zip(FIELDS, row, strict=True) if value is not None}
        if any(not _is_number(fields[name]) for name in _NUMBERS & fields.keys()):
            note("records", ValueError("no record of graycat's"))
            return {}
        return {name: value.decode(errors="replace") for name, value in fields.items()}

    def fields(self, task_id: str, *names: str) -> list[str]:
        """Return some fields of a task's record, '' for each that it lacks."""
        with broker_errors():
            values = self._client.hmget(keys.record_key(task_id), names)
        return _decode_values(values)

    def exists(self, task_id: str) -> bool:
        """Return whether a task has this id."""
        with broker_errors():
            return bool(self._client.exists(keys.record_key(task_id)))

    def events(self, task_id: str, after: str = "0") -> list[TaskEvent]:
        """Return all of ``event_pages``, for those who need them at once. Raises EventsGone."""
        return [event for page in self.event_pages(task_id, after) for event in page]

    def event_pages(self, task_id: str, after: str = "0") -> EventPages:
        """Return a task's events after the one with the id ``after`` ("0": all of them), to be read page by page."""
        return EventPages(self._event_range, task_id, after)

    def _event_range(self, task_id: str, first: str, count: int) -> list[TaskEvent]:
        with broker_errors():
            entries = self._client.xrange(keys.events_key(task_id), min=first, count=count)
        return [TaskEvent.from_stream(event_id, entry) for event_id, entry in entries]

    def last_event(self, task_id: str) -> TaskEvent | None:
        """Return a task's newest event; None if there is none."""
        with broker_errors():
            entries = self._client.xrevrange(keys.events_key(task_id), count=1)
        return next((TaskEvent.from_stream(event_id, entry) for event_id, entry in entries), None)

    def around(self, task_id: str, position: str) -> Surroundings:
        """Return what a task's stream has around a position in it."""
        key = keys.events_key(task_id)
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            pipe.xrange(key, count=2)
            pipe.xrevrange(key, max=position, count=1)
            head, before = pipe.execute()
        events = [TaskEvent.from_stream(event_id, entry) for event_id, entry in [*head, *before]]
        return Surroundings(tuple(events[: len(head)]), next(iter(events[len(head) :]), None))

    def unfinished(self, owner: str) -> dict[str, dict[str, str]]:
        """Return the records of an API token's unfinished tasks by their ids, oldest first, without their bodies."""
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            for family in FAMILIES:
                pipe.zrange(keys.owned_key(family.name, owner), 0, -1, withscores=True)
            found = [entry for entries in pipe.execute() for entry in entries]
            found.sort(key=lambda entry: entry[1])
            task_ids = [name.decode(errors="replace") for name, _ in found]
            for task_id in task_ids:
                pipe.hmget(keys.record_key(task_id), LIVE_FIELDS)
            rows = pipe.execute(raise_on_error=False)

        records = {}
        for task_id, row in zip(task_ids, rows, strict=True):
            if is_unusable_key(row) or row[0] is None:
                # Its record has expired, and with it the owner's name, so no script removes it from this list.
                self._client.zrem(keys.owned_key(ids.family_of(task_id).name, owner), task_id)
            else:
                records[task_id] = dict(zip(LIVE_FIELDS, _decode_values(row), strict=True))
        return records

    def list_tasks(self, owner: str, before: tuple[int, str], count: int) -> list[tuple[str, int]]:
        """Return ids and submit times (ms) of an owner's tasks after the one ``before``, newest first."""
        return self.list_ids(keys.listed_key(owner), before, count)

    def list_ids(self, key: str, before: tuple[int, str], count: int) -> list[tuple[str, int]]:
        """Return ids and submit times (ms) of the tasks in one of the sorted sets of them, as ``list_tasks`` does."""
        before_ms, before_id = before
        tasks: list[tuple[str, int]] = []
        offset = 0
        while len(tasks) < count:
            with broker_errors():
                rows = self._client.zrevrangebyscore(key, before_ms, "-inf", start=offset, num=count, withscores=True)
            for name, score in rows:
                task_id, submitted_ms = name.decode(errors="replace"), int(score)
                # Tasks that were submitted in the same millisecond are in the order of their ids.
                if (submitted_ms, task_id) < (before_ms, before_id):
                    tasks.append((task_id, submitted_ms))
            offset += len(rows)
            if len(rows) < count:
                break
        return tasks[:count]

    def was_listed(self, owner: str, task_id: str) -> bool:
        """Return whether an owner had a task, even if its record has expired."""
        with broker_errors():
            return self._client.zscore(keys.listed_key(owner), task_id) is not None

    def body(self, task_id: str) -> bytes | None:
        """Return the request body of a task; None if it is not kept."""
        with broker_errors():
            return self._client.hget(keys.record_key(task_id), "body")

    def mean_duration_ms(self, kind: str) -> int | None:
        """Return how long tasks of a kind take (ms), as a moving average; None if none has succeeded yet."""
        family = families.find_by_kind(kind)
        if family is None:
            return None
        with broker_errors():
            value = self._client.hget(keys.means_key(family.name), kind)
        # A box may have written anything there.
        if value is None or not re.fullmatch(rb"[0-9]{1,12}", value):
            return None
        return int(value)

    def preview(self, task_id: str) -> bytes | None:
        """Return the newest preview of a task; None if it has none, or ended more than a minute ago."""
        with broker_errors():
            return self._client.get(keys.preview_key(task_id))


def _decode_values(values: Iterable[bytes | None]) -> list[str]:
    # A box may have written anything into the records of its family.
    return [(value or b"").decode(errors="replace") for value in values]
