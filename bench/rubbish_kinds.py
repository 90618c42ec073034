"""What a user with the broker's password may write into it: rubbish of many kinds, the same for the same seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

QUEUES = ("llm", "llm.batch", "llm.quick", "sd", "sd.batch", "control")
WORKERS = ("llm", "quick", "sd", "control")
#: What is no JSON, or JSON of another form than anybody expects.
SCRAPS = (
    *("{half", "7", "[]", "null", "", "\u00ff", '{"a": [1, {"b": null}]}', '"text"', "NaN"),
    *("[" * 500, "9" * 400, b"\xff\xfe"),
)
#: Names of things that are nobody's. They are few, so that the rubbish itself does not fill the broker.
NAMES = [f"foreign-{number}" for number in range(20)]
TASK_IDS = [f"{first}{number:031x}" for first in "05f" for number in range(10)]
#: Hashes whose fields have graycat's names: half a record.
HALF_RECORDS: tuple[dict[str, str], ...] = (
    {"state": "queued"},
    {"state": "running", "attempt": "many", "queue": "llm", "kind": "llm.completion", "enqueued_ms": "soon"},
    {"state": "queued", "queue": "llm", "kind": "llm.ponder", "enqueued_ms": "1", "owner": "tests"},
    {"state": "from the future", "queue": "nobody's", "kind": "x", "enqueued_ms": "-1", "lease_ms": "x"},
    {"queue": "sd", "kind": "sd.txt2img", "state": "queued", "enqueued_ms": "1", "queue_deadline_ms": "no"},
)
#: What a part of a good message is replaced by.
CHANGES: tuple[dict[str, Any], ...] = (
    {"body": "abcde"},
    {"body": "e30="},
    {"body": ""},
    {"content-type": "application/x-python-serialize"},
    {"content-encoding": "no-such-encoding"},
    {"headers": {}},
    {"headers": 7},
    {"properties": None},
    {"headers": {"task": {"no": "name"}, "id": 7}},
    {"headers": {"task": "nobody.knows", "id": "an-id", "lang": "py"}},
    {"headers": {"task": "llm.ponder", "id": TASK_IDS[0], "lang": "py"}},
    {"headers": {"task": "llm.completion", "id": None, "lang": "py", "argsrepr": 7}},
    {"headers": {"task": "llm.completion", "id": "an-id", "eta": "never", "expires": "soon", "timelimit": "x"}},
    {},
)


def good_message(queue: str, tag: str) -> dict[str, Any]:
    """Return a message of a task that nobody has submitted."""
    return {
        "body": "W1siYW4taWQiXSwge30sIG51bGxd",
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "llm.completion", "id": "an-id", "root_id": "an-id"},
        "properties": {
            "correlation_id": "an-id",
            "delivery_mode": 2,
            "delivery_info": {"exchange": queue, "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": tag,
        },
    }


class Rubbish:
    """Sends one piece after the other. It changes nothing that belongs to the work of anybody else."""

    def __init__(self, broker: Any, seed: int) -> None:
        """``broker``: a ``redis.Redis``."""
        self._broker = broker
        self._chance = random.Random(seed)  # noqa: S311 (the same rubbish each time)
        self._count = 0
        self.kinds: tuple[Callable[[], None], ...] = (
            self.scrap_in_a_queue,
            self.changed_message,
            self.spoiled_unacknowledged,
            self.on_a_web_channel,
            self.on_celery_s_channels,
            self.foreign_worker,
            self.half_record,
            self.record_of_another_type,
            self.foreign_row,
            self.foreign_batch,
            self.foreign_delivery,
            self.foreign_schedule,
            self.key_in_place_of_a_queue,
            self.changing_key,
        )

    def send(self) -> str:
        """Send the next piece; return its kind."""
        kind = self.kinds[self._count % len(self.kinds)]
        self._count += 1
        # Where a key is of another type already, the next piece may be refused.
        with suppress(redis.ResponseError):
            kind()
        return kind.__name__

    def _scrap(self) -> Any:
        return self._chance.choice(SCRAPS)

    def _name(self) -> str:
        return self._chance.choice(NAMES)

    def _task_id(self) -> str:
        return self._chance.choice(TASK_IDS)

    def scrap_in_a_queue(self) -> None:
        """Put what is no message into a queue."""
        self._broker.lpush(self._chance.choice(QUEUES), self._scrap())

    def changed_message(self) -> None:
        """Put a message into a queue in which one part is not what it should be."""
        queue = self._chance.choice(QUEUES)
        message = good_message(queue, f"rubbish-{self._count}") | self._chance.choice(CHANGES)
        self._broker.lpush(queue, json.dumps(message))

    def spoiled_unacknowledged(self) -> None:
        """Put an entry among the unacknowledged messages that was delivered long ago."""
        kind, name = self._chance.choice(WORKERS), self._name()
        self._broker.hset(f"unacked:{kind}", name, self._scrap())
        self._broker.zadd(f"unacked_index:{kind}", {name: 1})

    def on_a_web_channel(self) -> None:
        """Publish what is no event on the channels of the web processes."""
        scraps = ["a b", "a b c", "task 1-1 chunk", "task x-y chunk data", f"{self._task_id()} 1-1 error {{"]
        scraps.append(self._scrap())
        for channel in self._broker.pubsub_channels("graycat:web:*"):
            self._broker.publish(channel, self._chance.choice(scraps))

    def on_celery_s_channels(self) -> None:
        """Publish what is no command, or one that no worker knows, on the channels of Celery's remote control."""
        command = {"method": "no_such_command", "arguments": {"x": 1}, "destination": None}
        scraps = (self._scrap(), json.dumps(command), json.dumps({"body": 7}), json.dumps(good_message("x", "y")))
        for channel in self._broker.pubsub_channels("*celery*"):
            self._broker.publish(channel, self._chance.choice(scraps))

    def foreign_worker(self) -> None:
        """Report a worker that nobody runs."""
        name = self._name()
        report = {"name": name, "queues": 7, "engine_state": ["?"], "slots": "many", "planet": "Mars"}
        self._broker.set(f"graycat:worker:{name}", self._chance.choice((self._scrap(), json.dumps(report))), px=5000)
        self._broker.zadd("graycat:fleet.llm", {name: self._chance.choice((0, 1e12, -1, 4e9))})

    def half_record(self) -> None:
        """Write a record that lacks fields, or has others, among the live tasks."""
        task_id = self._task_id()
        self._broker.delete(f"graycat:task:{task_id}")
        self._broker.hset(f"graycat:task:{task_id}", mapping=self._chance.choice(HALF_RECORDS))
        self._broker.zadd("graycat:live.llm", {task_id: self._chance.choice((0, 1))})

    def record_of_another_type(self) -> None:
        """Write a key that is no record among the live tasks, and one that is no stream in place of its events."""
        task_id = self._task_id()
        self._broker.delete(f"graycat:task:{task_id}", f"graycat:events:{task_id}")
        self._broker.set(f"graycat:task:{task_id}", self._scrap())
        self._broker.lpush(f"graycat:events:{task_id}", self._scrap())
        self._broker.zadd("graycat:live.llm", {task_id: 1, b"\xff\x00": 2})

    def foreign_row(self) -> None:
        """Write rows into hashes and lists that graycat shows."""
        name = self._name()
        for key in ("graycat:processes", "graycat:means.llm", "graycat:tokens", "graycat:tokens:used"):
            self._broker.hset(key, name, self._scrap())
        self._broker.sadd("graycat:paused", name)
        self._broker.sadd("graycat:turns.llm", name)
        self._broker.zadd("graycat:listed:tests", {name: 1})
        self._broker.zadd("graycat:live.llm:tests", {self._task_id(): 1})
        self._broker.lpush("graycat:quarantine.home", self._scrap())
        self._broker.ltrim("graycat:quarantine.home", 0, 99)

    def foreign_batch(self) -> None:
        """Write a batch that makes no sense among the live ones."""
        name = self._name()
        self._broker.delete(f"graycat:batch:{name}")
        self._broker.hset(f"graycat:batch:{name}", mapping={"state": "running", "owner": "tests", "options": "{half"})
        self._broker.zadd("graycat:batches:live", {name: 0})
        self._broker.zadd("graycat:batches", {name: 1})

    def foreign_delivery(self) -> None:
        """Write a delivery that is due and makes no sense."""
        member = self._chance.choice((self._name(), f"{self._name()} succeeded", "a b c", b"\xff"))
        self._broker.zadd("graycat:deliveries", {member: 1})
        self._broker.hset(f"graycat:delivery:{self._name()}:succeeded", "webhook", "{half")
        self._broker.pexpire(f"graycat:delivery:{self._name()}:succeeded", 60_000)

    def foreign_schedule(self) -> None:
        """Write a schedule that makes no sense."""
        name = self._name()
        self._broker.hset(f"graycat:schedule:tests:{name}", mapping={"cron": "every now and then", "next_ms": "soon"})
        self._broker.sadd("graycat:schedules", f"tests:{name}")

    def key_in_place_of_a_queue(self) -> None:
        """Write a key of another type where a queue has its place, if there is none now."""
        self._broker.set(self._chance.choice(("llm.batch", "sd:@nobody", "llm:no-model")), "no list", nx=True)

    def changing_key(self) -> None:
        """Change the type of keys quickly, many times."""
        task_id = self._task_id()
        keys = (f"graycat:preview:{task_id}", f"graycat:catalog:{self._name()}", f"graycat:artifacts:{task_id}")
        for key in keys:
            for write in (self._write_text, self._write_row, self._write_item):
                self._broker.delete(key)
                write(key)

    def _write_text(self, key: str) -> None:
        self._broker.set(key, self._scrap())

    def _write_row(self, key: str) -> None:
        self._broker.hset(key, self._name(), self._scrap())

    def _write_item(self, key: str) -> None:
        self._broker.lpush(key, self._scrap())
