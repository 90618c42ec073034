"""API tokens take turns in a queue: what enters it when, whatever becomes of the task before."""

from __future__ import annotations

import json
from itertools import islice
from typing import cast

import pytest

from graycat.broker import keys
from graycat.celeryapp import GraycatCelery
from graycat.errors import EngineError, QueueFull
from graycat.queue.models import Attempt
from graycat.queue.records import TaskRecords
from graycat.worker.sweeper import LOCKS, Sweeper
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, accepted, changed, claimed, eventually
from tests.support.workers import celery_app

#: So short that the sweeper finds everything old enough after a moment.
LEASE_S = 0.02


def submitted(records: TaskRecords, names: str, **changes: str) -> dict[str, str]:
    """Create tasks: ``"a1 b1"`` is the first of owner a, then the first of owner b; return their ids by name."""
    return {name: accepted(records, owner=name[0], **changes) for name in names.split()}


def waiting(client: BrokerClient, tasks: dict[str, str], queue: str = "llm") -> str:
    """Return the names of the tasks whose message lies in a queue, the next one first."""
    names = {task_id: name for name, task_id in tasks.items()}
    ids = [json.loads(message)["headers"]["id"] for message in reversed(client.lrange(queue, 0, -1))]
    return " ".join(names[task_id] for task_id in ids)


def take(records: TaskRecords, queue: str = "llm") -> Attempt | str | None:
    """Take a queue's next message, as a worker does; None where it is empty."""
    client = cast(BrokerClient, records._client)
    message = client.rpop(queue)
    return records.claim(json.loads(message)["headers"]["id"], "llm@here") if message else None


def order(records: TaskRecords, tasks: dict[str, str], queue: str = "llm") -> str:
    """Return the names of the tasks as a worker would start them, until the queue is empty."""
    names = {task_id: name for name, task_id in tasks.items()}
    taken = iter(lambda: take(records, queue), None)
    return " ".join(names[attempt.task_id] for attempt in taken if isinstance(attempt, Attempt))


def test_of_each_owner_one_task_is_in_the_queue(records, client) -> None:
    tasks = submitted(records, "a1 a2 a3 b1 b2 c1")
    assert waiting(client, tasks) == "a1 b1 c1"


def test_owners_take_turns_each_in_the_order_of_its_tasks(records) -> None:
    tasks = submitted(records, "a1 a2 a3 a4 b1 b2 c1")
    assert order(records, tasks) == "a1 b1 c1 a2 b2 a3 a4"


def test_who_comes_late_waits_for_one_task_of_each_other(records) -> None:
    tasks = submitted(records, "a1 a2 a3 b1 b2")
    assert isinstance(take(records), Attempt)
    tasks |= submitted(records, "c1")
    assert order(records, tasks) == "b1 a2 c1 b2 a3"


def test_one_task_behind_500_of_another_owner_is_the_second(records) -> None:
    tasks = submitted(records, " ".join(f"a{n}" for n in range(500)))
    tasks |= submitted(records, "b1")
    assert records.queue_position(tasks["b1"]) == 2
    started = order(records, tasks).split()
    assert started[:3] == ["a0", "b1", "a1"]
    assert started[2:] == [f"a{n}" for n in range(1, 500)]


def test_nothing_is_left_of_turns_when_all_is_done(records, client) -> None:
    tasks = submitted(records, "a1 a2 b1 b2")
    order(records, tasks)
    left = [key for word in ("turn", "aside", "owners") for key in client.keys(f"graycat:{word}:*")]
    assert left == []
    assert client.get("graycat:asides:llm") == b"0"


def test_quick_calls_go_without_turns(records, client) -> None:
    for queue in ("llm.quick", "llm.quick:a-model"):
        tasks = submitted(records, "a1 a2 a3 b1", queue=queue)
        assert waiting(client, tasks, queue) == "a1 a2 a3 b1"


@pytest.mark.parametrize("queue", ["llm:a-model", "llm:a.quick.model", "sd:@sd@box", "llm.batch", "sd.batch:m"])
def test_each_other_queue_has_turns_of_its_own(records, client, queue: str) -> None:
    shared = submitted(records, "a1 b2")
    tasks = submitted(records, "a3 a4 b1", queue=queue)
    assert waiting(client, shared) == "a1 b2"
    assert order(records, tasks, queue) == "a3 b1 a4"


def test_names_with_colons_do_not_meet(records, client) -> None:
    first = accepted(records, owner="game:alice", queue="llm")
    second = accepted(records, owner="alice", queue="llm:game")
    assert [client.llen(queue) for queue in ("llm", "llm:game")] == [1, 1]
    assert (records.queue_position(first), records.queue_position(second)) == (1, 1)


def test_a_holder_that_is_cancelled_lets_the_next_go_on(records, client) -> None:
    tasks = submitted(records, "a1 a2 a3")
    records.cancel(tasks["a1"])
    # Its message stays, and is thrown away by the worker that takes it.
    assert waiting(client, tasks) == "a1 a2"
    assert order(records, tasks) == "a2 a3"


def test_a_holder_that_expires_lets_the_next_go_on(broker: Valkey, records, client) -> None:
    hasty = TaskRecords(client, changed(broker.settings, queue_ttl_s=0.001))
    tasks = {"a1": accepted(hasty, owner="a")} | submitted(records, "a2 a3")
    eventually(lambda: hasty.expire(tasks["a1"]))
    assert order(records, tasks) == "a2 a3"


def test_what_is_cancelled_while_it_waits_aside_is_left_out_and_makes_room(records, client) -> None:
    tasks = submitted(records, "a1 a2 a3 a4 b1")
    records.cancel(tasks["a2"])
    records.cancel(tasks["a4"])
    assert client.get("graycat:asides:llm") == b"1"
    assert "message" not in records.get(tasks["a2"])
    assert order(records, tasks) == "a1 b1 a3"


def test_the_end_of_a_running_task_gives_no_second_turn(records, client) -> None:
    tasks = submitted(records, "a1 a2 a3")
    attempt = take(records)
    records.succeed(attempt, 200, b"{}")
    assert waiting(client, tasks) == "a2"


def test_a_task_that_is_handed_back_keeps_its_message_and_passes_no_turn(records, client) -> None:
    tasks = submitted(records, "a1 a2 a3")
    attempt = take(records)
    assert isinstance(attempt, Attempt)
    records.release(attempt)
    assert waiting(client, tasks) == "a2"
    # What Celery does with a message that is rejected.
    claimed(records, tasks["a1"])
    assert order(records, tasks) == "a2 a3"


def test_a_task_that_was_tried_too_often_lets_the_next_go_on(broker: Valkey, client) -> None:
    records = TaskRecords(client, changed(broker.settings, max_attempts=1))
    tasks = submitted(records, "a1")
    records.release(claimed(records, tasks["a1"]))
    tasks |= submitted(records, "a2 a3")
    assert records.claim(tasks["a1"], "llm@here") == "lost"
    assert order(records, tasks) == "a2 a3"


def test_a_failed_task_that_is_submitted_again_goes_behind_its_owner_s_others(records) -> None:
    tasks = submitted(records, "a1 a2 b1")
    records.fail(take(records), EngineError(500, b"{}"))
    tasks |= submitted(records, "a3")
    assert order(records, tasks) == "b1 a2 a3"


def test_a_holder_whose_record_is_gone_does_not_hold_up_a_new_task(records, client) -> None:
    tasks = submitted(records, "a1 a2")
    client.delete(keys.record_key(tasks["a1"]))
    tasks |= submitted(records, "a3")
    assert order(records, tasks) == "a3 a2"


@pytest.fixture
def app(broker: Valkey) -> GraycatCelery:
    return celery_app(broker.settings.home)


@pytest.fixture
def sweep(broker: Valkey, app: GraycatCelery):
    """Return how to sweep once everything is old enough."""
    sweeper = Sweeper(broker.client, changed(broker.settings, lease_s=LEASE_S), app)

    def sweep_now() -> int:
        seen = broker.client.time()[0] * 1000 + broker.client.time()[1] / 1000
        eventually(lambda: broker.client.time()[0] * 1000 + broker.client.time()[1] / 1000 > seen + 2000 * LEASE_S)
        broker.client.delete(*LOCKS.values())
        return sweeper.sweep()

    return sweep_now


def test_the_sweeper_goes_on_where_the_holder_s_record_is_gone(records, client, sweep) -> None:
    tasks = submitted(records, "a1 a2 a3")
    client.delete(keys.record_key(tasks["a1"]))
    client.delete("llm")
    assert sweep() == 1
    assert sweep() == 0
    assert order(records, tasks) == "a2 a3"


def test_a_broker_that_lost_the_holder_s_message_gets_it_again(records, client, sweep) -> None:
    tasks = submitted(records, "a1 a2 b1")
    client.delete("llm")
    assert sweep() == 2
    assert sorted(waiting(client, tasks).split()) == ["a1", "b1"]
    assert sorted(order(records, tasks).split()) == ["a1", "a2", "b1"]


def test_the_sweeper_forgets_turns_of_which_nothing_is_left(records, client, sweep) -> None:
    tasks = submitted(records, "a1 a2 a3 b1")
    for name in ("a1", "a2", "a3"):
        client.delete(keys.record_key(tasks[name]))
    assert sweep() == 0
    assert client.get("graycat:asides:llm") == b"0"
    assert client.keys("graycat:aside.*") == []
    assert order(records, tasks) == "b1"
    assert client.smembers("graycat:turns.llm") == set()


@pytest.mark.parametrize(("queue", "batch"), [("llm", "llm.batch"), ("llm:m", "llm.batch:m"), ("sd", "sd.batch:@a")])
def test_bulk_work_yields_while_an_interactive_task_waits_aside(records, queue: str, batch: str) -> None:
    bulk = accepted(records, owner="a", queue=batch)
    tasks = submitted(records, "b1 b2", queue=queue)
    first = take(records, queue)
    assert isinstance(first, Attempt)
    claimed(records, bulk)
    again = accepted(records, owner="c", queue=batch)
    tasks |= submitted(records, "b3", queue=queue)
    assert records.claim(again, "llm@here") == "yield"
    assert records.get(again)["state"] == "queued"
    assert order(records, tasks, queue) == "b2 b3"
    assert claimed(records, again).number == 1


@pytest.mark.parametrize(
    ("queue", "batch", "excluded"),
    [
        ("llm", "llm.batch", ("llm",)),
        ("llm:m", "llm.batch:m", ("llm:m",)),
        ("llm:m", "llm.batch:m", ("llm",)),
        ("sd", "sd.batch:@a", ("sd", "sd:@a")),
    ],
)
def test_bulk_work_goes_on_while_the_queue_before_it_is_paused_or_left(records, queue, batch, excluded) -> None:
    submitted(records, "b1 b2 b3", queue=queue)
    bulk = accepted(records, owner="a", queue=batch)
    assert records.claim(bulk, "llm@here") == "yield"
    assert records.claim(bulk, "llm@here", ("llm.quick", *excluded)).number == 1


def test_bulk_work_yields_to_a_queue_that_is_not_paused_beside_one_that_is(records) -> None:
    submitted(records, "b1 b2", queue="llm")
    bulk = accepted(records, owner="a", queue="llm.batch:m")
    assert records.claim(bulk, "llm@here", ("llm:m", "llm.batch")) == "yield"


def test_bulk_work_whose_worker_died_is_charged_once_however_often_it_yields(records, client) -> None:
    bulk = accepted(records, owner="a", queue="llm.batch")
    claimed(records, bulk)
    client.hset(keys.record_key(bulk), "lease_ms", 1)
    tasks = submitted(records, "b1 b2")
    assert [records.claim(bulk, "llm@here") for _ in range(20)] == ["yield"] * 20
    for _ in tasks:
        take(records)
    assert claimed(records, bulk).number == 2


def test_bulk_work_of_one_engine_does_not_yield_to_the_other_s(records) -> None:
    submitted(records, "a1 a2", queue="sd")
    assert claimed(records, accepted(records, queue="llm.batch")).number == 1


def test_a_sweeper_gets_to_every_task_however_many_there_are(records, client, sweep, monkeypatch) -> None:
    monkeypatch.setattr("graycat.worker.sweeper.MAX_TASKS", 2)
    tasks = submitted(records, "a1 b1 c1 d1 e1")
    client.delete("llm")
    assert [sweep() for _ in range(4)] == [2, 2, 1, 0]
    assert sorted(waiting(client, tasks).split()) == sorted(tasks)


def test_what_waits_aside_is_not_taken_for_lost(records, client, sweep) -> None:
    ids = {name: accepted(records, owner="a") for name in ("a1", "a2", "a3")}
    assert sweep() == 0
    assert waiting(client, ids) == "a1"


def test_what_waits_aside_too_long_expires(broker: Valkey, records, client, sweep) -> None:
    hasty = TaskRecords(client, changed(broker.settings, queue_ttl_s=0.01))
    tasks = submitted(records, "a1")
    tasks |= {name: accepted(hasty, owner="a") for name in ("a2", "a3")} | submitted(records, "a4")
    assert sweep() == 0
    assert [records.get(tasks[name])["state"] for name in tasks] == ["queued", "expired", "expired", "queued"]
    assert order(records, tasks) == "a1 a4"


def test_the_cap_counts_what_waits_aside(broker: Valkey, client) -> None:
    records = TaskRecords(client, changed(broker.settings, queue_cap=4))
    tasks = submitted(records, "a1 a2 a3 b1")
    with pytest.raises(QueueFull):
        submitted(records, "c1")
    records.cancel(tasks["a3"])
    submitted(records, "c1")
    with pytest.raises(QueueFull):
        submitted(records, "d1")


@pytest.mark.parametrize("names", ["a1 a2 a3 b1 b2 c1", "a1 b1 b2 b3 a2 a3", "c1 b1 a1 c2 b2 c3 c4", "a1"])
def test_a_place_is_that_in_which_the_task_is_started(records, names: str) -> None:
    tasks = submitted(records, names)
    while True:
        places = {name: records.queue_position(task_id) for name, task_id in tasks.items()}
        ahead = {name: place for name, place in places.items() if place}
        if not ahead:
            break
        attempt = take(records)
        assert isinstance(attempt, Attempt)
        (first,) = [name for name, place in ahead.items() if place == 1]
        assert attempt.task_id == tasks[first]
        assert sorted(ahead.values()) == list(range(1, len(ahead) + 1))


def test_a_task_that_does_not_wait_has_no_place(records) -> None:
    running = claimed(records, accepted(records))
    assert (records.queue_position(running.task_id), records.queue_position("nobody")) == (0, 0)


def test_a_place_counts_no_task_that_was_cancelled(records) -> None:
    tasks = submitted(records, "a1 a2 a3")
    records.cancel(tasks["a2"])
    assert [records.queue_position(task_id) for task_id in islice(tasks.values(), 3)] == [1, 0, 2]


def test_a_task_that_is_started_before_its_turn_leaves_its_place(records, client, settings) -> None:
    tasks = submitted(records, "a1 a2 a3")
    # As from a message that a program of Celery's has sent.
    attempt = claimed(records, tasks["a2"])
    assert (client.get("graycat:asides:llm"), waiting(client, tasks)) == (b"1", "a1")
    # It does not seem to be parked any more, so the sweeper finds it if its message is lost.
    assert records.release(attempt)
    assert "message" not in records.get(tasks["a2"])
    assert order(records, tasks) == "a1 a3"
    assert client.get("graycat:asides:llm") == b"0"
