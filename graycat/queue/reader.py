"""What can be read of tasks without changing them."""

from __future__ import annotations

from graycat.broker import keys
from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker
from graycat.queue.events import TaskEvent

#: What ``live`` tells of a task.
LIVE_FIELDS = ("state", "kind", "started_ms", "progress", "cancel", "queue", "submitted_ms")


class RecordReader:
    """The tasks' records, event streams and lists, to read."""

    def __init__(self, client: Broker) -> None:
        self._client = client

    def get(self, task_id: str) -> dict[str, str]:
        """Return a task's record but for its body; empty where there is none."""
        with broker_errors():
            fields = self._client.hgetall(keys.record_key(task_id))
        return {name.decode(): value.decode() for name, value in fields.items() if name != b"body"}

    def fields(self, task_id: str, *names: str) -> list[str]:
        """Return some fields of a task's record, '' for each that is not there."""
        with broker_errors():
            values = self._client.hmget(keys.record_key(task_id), names)
        return [(value or b"").decode() for value in values]

    def exists(self, task_id: str) -> bool:
        """Tell whether there is a task of this id."""
        with broker_errors():
            return bool(self._client.exists(keys.record_key(task_id)))

    def events(self, task_id: str, after: str = "0") -> list[TaskEvent]:
        """Return a task's events behind the one with the id ``after``, oldest first."""
        with broker_errors():
            entries = self._client.xrange(keys.events_key(task_id), min=f"({after}" if after != "0" else "-")
        return [TaskEvent.from_stream(event_id, entry) for event_id, entry in entries]

    def unfinished(self, owner: str) -> dict[str, dict[str, str]]:
        """Return the records of an API token's unfinished tasks by their ids, oldest first, without their bodies."""
        with broker_errors():
            ids = [task_id.decode() for task_id in self._client.zrange(keys.owned_key(owner), 0, -1)]
            with self._client.pipeline(transaction=False) as pipe:
                for task_id in ids:
                    pipe.hmget(keys.record_key(task_id), LIVE_FIELDS)
                rows = pipe.execute()
        found = {}
        for task_id, row in zip(ids, rows, strict=True):
            if row[0] is None:
                # Its record is gone; whose it was went with it, so nobody else takes it off this list.
                self._client.zrem(keys.owned_key(owner), task_id)
            else:
                found[task_id] = dict(zip(LIVE_FIELDS, ((value or b"").decode() for value in row), strict=True))
        return found

    def list_tasks(self, owner: str, before: tuple[int, str], count: int) -> list[tuple[str, int]]:
        """Return ids and submit times (ms) of an owner's tasks behind the one ``before``, newest first."""
        at_ms, last_id = before
        found: list[tuple[str, int]] = []
        place = 0
        while len(found) < count:
            with broker_errors():
                rows = self._client.zrevrangebyscore(
                    keys.listed_key(owner), at_ms, "-inf", start=place, num=count, withscores=True
                )
            # Several may have been submitted in one millisecond; the list has those in the order of their ids.
            named = [(task_id.decode(), int(score)) for task_id, score in rows]
            found += [(name, score) for name, score in named if (score, name) < (at_ms, last_id)]
            place += len(rows)
            if len(rows) < count:
                break
        return found[:count]

    def was_listed(self, owner: str, task_id: str) -> bool:
        """Tell whether an owner had a task, also when its record is gone."""
        with broker_errors():
            return self._client.zscore(keys.listed_key(owner), task_id) is not None

    def body(self, task_id: str) -> bytes | None:
        """Return what a task's engine gets; None where that is not kept."""
        with broker_errors():
            kept: bytes | None = self._client.hget(keys.record_key(task_id), "body")
        return kept

    def mean_duration_ms(self, kind: str) -> int | None:
        """Return how long tasks of a kind take, as a moving average; None where none has succeeded yet."""
        with broker_errors():
            value = self._client.hget(keys.MEANS, kind)
        return int(value) if value is not None else None

    def preview(self, task_id: str) -> bytes | None:
        """Return the newest preview of a task, while it renders and a little longer."""
        with broker_errors():
            image: bytes | None = self._client.get(keys.preview_key(task_id))
        return image
