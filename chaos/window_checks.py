"""What must be true when the work of a window has ended: nothing lost, nothing twice, nothing left behind."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from chaos.leftovers import find_leftovers
from chaos.window_stack import WindowStack, read_webhooks
from chaos.work import Work
from graycat.broker.client import connect
from graycat.queue.models import TERMINAL_STATES
from graycat.queue.stored import StoredBytes
from graycat.usage.amounts import NAMES
from tests.support.servers import Seen

#: Keys of what has ended, which must end as well.
EXPIRING = (
    *("graycat:task:*", "graycat:events:*", "graycat:hook:*", "graycat:delivery:*", "graycat:artifact:*"),
    *("graycat:artifacts:*", "graycat:preview:*", "graycat:rate:*"),
)
#: The holder of a charge, and the field with its input.
INPUTS = {"task": "body", "batch": "document"}
#: What the sweeper logs when it has found a task whose message was lost.
SWEPT = "lost task enqueued again"
#: What no process may log.
TROUBLE = ("Traceback", "unexpected error", "duty failed", "failed unexpectedly", "accounts of stored bytes were wrong")


class Checks:
    """The checks of one stack; the work of all its windows is counted together."""

    def __init__(self, stack: WindowStack, receiver: Seen) -> None:
        self.stack = stack
        self.receiver = receiver
        self._client = connect(stack.settings)
        #: How often engines were asked for each piece of work, when that had ended, by its name.
        self._calls: dict[str, int] = {}
        self._troubles = 0

    def close(self) -> None:
        """Close the connection to the broker."""
        self._client.close()

    def find_leftovers(self) -> list[str]:
        """Return what is left in the broker of work that has all ended."""
        broker, found = self.stack.redis(), []
        for left in find_leftovers(broker):
            found.append(f"{left.name}: {left.key!r} is left: {describe(broker, left.key)}")
        return found + self._find_unexpiring() + self._find_charges()

    def _scan(self, patterns: Iterable[str]) -> list[str]:
        keys: list[str] = []
        for pattern in patterns:
            keys += self.stack.redis().scan_iter(pattern, count=1000)
        return keys

    def _find_unexpiring(self) -> list[str]:
        keys = self._scan(EXPIRING)
        with self.stack.redis().pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.pttl(key)
            lifetimes = pipe.execute()
        return [f"{key} never expires" for key, ttl_ms in zip(keys, lifetimes, strict=True) if ttl_ms == -1]

    def _find_charges(self) -> list[str]:
        broker = self.stack.redis()
        found = []
        for entry in broker.zrange("graycat:stored:charges", 0, -1):
            _, holder, owner = entry.split(" ", 2)
            if not broker.hexists(f"graycat:{holder}", INPUTS[holder.partition(":")[0]]):
                found.append(f"{owner} is still charged for {holder}, which holds nothing")
        wrong = StoredBytes(self._client).recount()
        if wrong:
            found.append(f"{wrong} accounts of stored bytes are wrong")
        return found

    def check_usage(self) -> list[str]:
        """Return where the counted usage differs from the sum of what all tasks have used."""
        broker = self.stack.redis()
        counted: Counter[str] = Counter()
        for key in broker.scan_iter("graycat:usage:day:*"):
            for field, value in broker.hgetall(key).items():
                _, family, name = field.rsplit(" ", 2)
                counted[f"{family} {name}"] += int(value)
        used: Counter[str] = Counter()
        for record in self._records():
            for name, amount in count_usage(record).items():
                used[f"{record['kind'].partition('.')[0]} {name}"] += amount
        wrong = [name for name in sorted(counted.keys() | used.keys()) if counted[name] != used[name]]
        return [f"usage: {name} is {counted[name]}, not {used[name]}" for name in wrong]

    def _records(self) -> list[dict[str, str]]:
        with self.stack.redis().pipeline(transaction=False) as pipe:
            for key in self._scan(("graycat:task:*",)):
                pipe.hgetall(key)
            rows: list[dict[str, str]] = pipe.execute()
        return rows

    def check_work(self, work: Work, deaths: Mapping[str, int], *, may_be_swept: bool = False) -> list[str]:
        """Return what is wrong with work that has ended; ``deaths``: of processes meanwhile, by name."""
        expected = work.expected()
        problems = list(work.check())
        attempts = 0
        for task_id, states in expected.items():
            record = self.stack.redis().hgetall(f"graycat:task:{task_id}")
            problems += check_record(work, task_id, record, states)
            attempts += int(record.get("attempt", 0))
        problems += self._check_calls(work, attempts, len(expected), deaths)
        problems += self._check_webhooks(work, list(expected), deaths)
        if not may_be_swept and any(SWEPT in line and has_any(line, expected) for line in self._log()):
            problems.append(f"{work.name}: its message was lost, and only the sweeper has found that")
        return problems

    def _check_calls(self, work: Work, attempts: int, tasks: int, deaths: Mapping[str, int]) -> list[str]:
        calls = self._count_calls(work)
        self._calls[work.name] = calls
        problems = []
        if calls > attempts:
            problems.append(f"{work.name}: its engine was asked {calls} times in {attempts} attempts")
        if attempts > tasks and not any(deaths[name] for name in ("llm", "llm2", "quick", "sd", "sd2")):
            problems.append(f"{work.name}: {tasks} tasks took {attempts} attempts, and no worker has died")
        return problems

    def _count_calls(self, work: Work) -> int:
        if not work.calls_engine:
            return 0
        return sum(work.name in line for line in self.stack.asked())

    def check_calls_again(self, works: Iterable[Work]) -> list[str]:
        """Return what an engine was asked for after the work had ended."""
        problems = []
        for work in works:
            calls = self._count_calls(work)
            if calls != self._calls.get(work.name, calls):
                problems.append(f"{work.name}: its engine was asked again after it had ended")
        return problems

    def _check_webhooks(self, work: Work, task_ids: list[str], deaths: Mapping[str, int]) -> list[str]:
        if not work.events:
            return []
        holders = task_ids
        batch_id = getattr(work, "batch_id", "")
        if batch_id:
            holders = [batch_id]
        told = read_webhooks(self.receiver)
        problems = []
        for holder in holders:
            expected = {f"msg_{holder}_{event}" for event in work.events}
            got = {name: count for name, count in told.items() if holder in name}
            for name in sorted(expected - got.keys()):
                problems.append(f"{work.name}: {name} was never told")
            for name in sorted(got.keys() - expected):
                problems.append(f"{work.name}: {name} was told, and nobody has asked for it")
            for name, count in got.items():
                if count > 1 + deaths["control"]:
                    died = deaths["control"]
                    problems.append(f"{work.name}: {name} was told {count} times, and control died {died} times")
        return problems

    def told_all(self, work: Work) -> bool:
        """Return whether the webhook of some work was told of everything."""
        problems = self._check_webhooks(work, list(work.expected()), Counter())
        return not any("never told" in problem for problem in problems)

    def _log(self) -> list[str]:
        return self.stack.output.splitlines()

    def find_troubles(self) -> list[str]:
        """Return the new lines of the log that tell of a defect."""
        lines = [line for line in self._log() if any(words in line for words in TROUBLE)]
        new = lines[self._troubles :]
        self._troubles = len(lines)
        return [f"log: {line[:300]}" for line in new]


def check_record(work: Work, task_id: str, record: Mapping[str, str], states: tuple[str, ...]) -> list[str]:
    """Return what is wrong with the record of a task that has ended."""
    if not record:
        return [f"{work.name}: the task {task_id} is lost"]
    problems = []
    if record["state"] not in states:
        ended = f"{record['state']} ({record.get('status')})"
        problems.append(f"{work.name}: {task_id} is {ended}, not {' or '.join(states)}")
    if record["state"] in TERMINAL_STATES:
        deadline_ms = int(record["queue_deadline_ms"]) + int(record["exec_timeout_ms"])
        if int(record["finished_ms"]) > deadline_ms:
            problems.append(f"{work.name}: {task_id} has ended after its deadline")
    if "lease_ms" in record or "message" in record:
        problems.append(f"{work.name}: the record of {task_id} has a lease or a message still")
    ends = [fields["kind"] for _, fields in work.stack.redis().xrange(f"graycat:events:{task_id}")]
    terminal = [kind for kind in ends if kind in ("result", "error", "cancelled")]
    if len(terminal) != 1 or ends[-1] != terminal[0]:
        problems.append(f"{work.name}: the events of {task_id} have {len(terminal)} ends, the last is {ends[-1:]}")
    return problems


def count_usage(record: Mapping[str, str]) -> dict[str, int]:
    """Return the amounts that a task adds to the usage of its owner."""
    if record.get("state") not in TERMINAL_STATES:
        return {}
    amounts = {"requests": 1, "failed": int(record["state"] in ("failed", "expired"))}
    amounts["cancelled"] = int(record["state"] == "cancelled")
    for name in NAMES[3:]:
        amounts[name] = int(record.get(name, 0))
    return {name: amount for name, amount in amounts.items() if amount}


def has_any(line: str, words: Iterable[str]) -> bool:
    """Return whether one of the words is in a line."""
    return any(word in line for word in words)


def describe(broker: Any, key: str) -> str:
    """Return what a key holds, in short."""
    readers = {
        "string": broker.get,
        "list": lambda name: broker.lrange(name, 0, 3),
        "hash": broker.hgetall,
        "zset": lambda name: broker.zrange(name, 0, 3, withscores=True),
        "set": broker.smembers,
    }
    reader = readers.get(broker.type(key))
    if reader is None:
        return "gone by now"
    return json.dumps(reader(key), default=sorted)[:300]
