"""What must be true of the broker after each step of the machine in ``chaos.life``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from chaos.life_model import QUEUED, RUNNING, ModelTask
from chaos.life_testbed import QUEUES, UNACKED, Testbed
from graycat.broker import keys
from graycat.queue.events import TERMINAL

#: Fields of a record that never change any more when the task has ended.
FINAL = ("state", "status", "attempt", "finished_ms", "size", "owner", "queue", "submitted_ms")


class Snapshot:
    """All that the broker has, read in one round trip."""

    def __init__(self, testbed: Testbed, task_ids: Collection[str]) -> None:
        owners = list(testbed.web)
        pairs = [(queue, owner) for queue in QUEUES for owner in owners]
        pipe: Any
        with testbed.client.pipeline(transaction=True) as pipe:
            pipe.zrange(keys.live_key("llm"), 0, -1)
            pipe.hvals(UNACKED["unacked_key"])
            pipe.smembers(keys.turns_key("llm"))
            pipe.zrange(keys.STORED_CHARGES, 0, -1)
            pipe.hgetall(keys.STORED)
            for owner in owners:
                pipe.zrange(keys.owned_key("llm", owner), 0, -1)
            for queue in QUEUES:
                pipe.lrange(queue, 0, -1)
                pipe.get(keys.dead_messages_key(queue))
                pipe.get(keys.parked_count_key(queue))
                pipe.zrange(keys.owners_key(queue), 0, -1)
            for pair in pairs:
                pipe.get(keys.turn_key(*pair))
                pipe.lrange(keys.parked_key(*pair), 0, -1)
            for task_id in task_ids:
                pipe.hgetall(keys.record_key(task_id))
                pipe.xrange(keys.events_key(task_id))
            replies = iter(pipe.execute())
        self.live = _texts(next(replies))
        self.unacked = [json.loads(entry)[0]["headers"]["id"] for entry in next(replies)]
        self.turns = _texts(next(replies))
        self.charges = [entry.decode() for entry in next(replies)]
        self.accounts = {name.decode(): value.decode() for name, value in next(replies).items()}
        self.owned = {owner: _texts(next(replies)) for owner in owners}
        self.queues: dict[str, list[str]] = {}
        self.dead: dict[str, int] = {}
        self.parked_counts: dict[str, int] = {}
        self.owners: dict[str, set[str]] = {}
        for queue in QUEUES:
            self.queues[queue] = [json.loads(message)["headers"]["id"] for message in next(replies)]
            self.dead[queue] = int(next(replies) or 0)
            self.parked_counts[queue] = int(next(replies) or 0)
            self.owners[queue] = _texts(next(replies))
        self.turn: dict[tuple[str, str], str] = {}
        self.parked: dict[tuple[str, str], list[str]] = {}
        for pair in pairs:
            self.turn[pair] = (next(replies) or b"").decode()
            self.parked[pair] = [name.decode() for name in next(replies)]
        self.records: dict[str, dict[str, str]] = {}
        self.events: dict[str, list[str]] = {}
        for task_id in task_ids:
            fields = next(replies)
            self.records[task_id] = {name.decode(): value.decode() for name, value in fields.items()}
            self.events[task_id] = [fields[b"kind"].decode() for _, fields in next(replies)]


def _texts(names: Any) -> set[str]:
    return {name.decode() for name in names}


def check(testbed: Testbed, tasks: Mapping[str, ModelTask], gone: Sequence[ModelTask]) -> None:
    """Compare the broker with the model; ``gone``: tasks whose records are. Raises AssertionError."""
    snapshot = Snapshot(testbed, tasks.keys())
    for task in tasks.values():
        _check_task(snapshot, task)
    unfinished = {task.id for task in tasks.values() if not task.ended}
    assert snapshot.live == unfinished
    for owner, owned in snapshot.owned.items():
        assert owned == {task_id for task_id in unfinished if tasks[task_id].owner == owner}
    places = Counter(snapshot.unacked)
    for queue in QUEUES:
        places.update(snapshot.queues[queue])
        places.update(_check_turns(snapshot, queue, tasks))
        # As many messages do not count as waiting: with more, a full queue would accept tasks.
        left = sum(task.left_message for task in (*tasks.values(), *gone) if task.queue == queue)
        assert snapshot.dead[queue] <= left, f"{snapshot.dead[queue]} messages are called dead, and {left} are"
    # A name that is used anew, when the record is gone, stands for the same id.
    earlier = Counter(task.id for task in gone if task.left_message)
    for task_id in unfinished:
        least, most = 0 if tasks[task_id].unheld else 1, 1 + earlier[task_id]
        assert least <= places[task_id] <= most, f"{task_id} has {places[task_id]} messages: {tasks[task_id]}"
    _check_charges(snapshot, unfinished, {task.id for task in gone})


def _check_task(snapshot: Snapshot, task: ModelTask) -> None:
    """Check the record and the events of one task."""
    record, events = snapshot.records[task.id], snapshot.events[task.id]
    found = (record.get("state"), int(record.get("attempt", -1)), int(record.get("charged", 0)))
    assert found == (task.state, task.attempts, task.charged), f"{task.id}: {found}, and should be {task}"
    assert ("lease_ms" in record) == (task.state == RUNNING)
    counts = Counter(events)
    ends = [kind for kind in events if kind in TERMINAL]
    assert len(ends) == task.ended, f"{task.id} has the ends {ends}"
    assert not ends or events[-1] in TERMINAL, f"{task.id} has events behind its end"
    assert (counts["started"], counts["chunk"]) == (task.attempts, task.chunks), f"{task.id}: {counts}"
    if not task.ended:
        return
    final = {name: record.get(name, "") for name in FINAL}
    task.final = task.final or final
    assert final == task.final, f"{task.id} has changed after its end"


def _check_turns(snapshot: Snapshot, queue: str, tasks: Mapping[str, ModelTask]) -> list[str]:
    """Check the turns in one queue; return the ids of the tasks that are parked."""
    parked = []
    for owner in snapshot.owned:
        turn, waiting = snapshot.turn[queue, owner], snapshot.parked[queue, owner]
        assert (owner in snapshot.owners[queue]) == bool(turn), (
            f"{owner}: {snapshot.owners}, but the turn is {turn!r}'s"
        )
        assert turn or not waiting, f"nobody has the turn before {waiting}"
        if turn:
            assert tasks[turn].state == QUEUED, f"the turn is {tasks[turn]}'s"
            assert turn not in waiting
        for task_id in waiting:
            assert tasks[task_id].state == QUEUED, f"parked: {tasks[task_id]}"
            assert "message" in snapshot.records[task_id]
        parked += waiting
    assert snapshot.parked_counts[queue] == len(parked)
    assert (queue in snapshot.turns) == bool(snapshot.owners[queue])
    return parked


def _check_charges(snapshot: Snapshot, unfinished: set[str], reused: Collection[str]) -> None:
    """Check that accounts are the sums of their charges, and that each unfinished task is charged once."""
    sums: Counter[str] = Counter()
    charged: Counter[str] = Counter()
    for entry in snapshot.charges:
        size, holder, owner = entry.split(" ")
        charged[holder.removeprefix("task:")] += 1
        sums.update({owner: int(size), "*": int(size)})
    accounts = {
        name: int(value) for name, value in snapshot.accounts.items() if not name.startswith("*") or name == "*"
    }
    assert accounts == dict(sums)
    twice = {holder for holder, times in charged.items() if times > 1}
    assert twice <= set(reused), f"charged twice: {twice}"
    assert unfinished <= charged.keys()


def check_usage(testbed: Testbed, tasks: Sequence[ModelTask]) -> None:
    """Check that the usage of all tasks, which have ended, is counted once. Raises AssertionError."""
    while testbed.usage.step():
        pass
    assert testbed.client.zcard(keys.UNCOUNTED) == 0
    for owner in testbed.web:
        wanted: Counter[str] = Counter()
        for task in tasks:
            if task.owner == owner:
                wanted.update(requests=1, cancelled=task.state == "cancelled", completion_tokens=task.tokens)
                wanted.update(failed=task.state in ("failed", "expired"))
        used = testbed.read_usage(owner)
        assert {name: used[name] for name in wanted} == dict(wanted)
