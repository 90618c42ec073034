"""Tasks of web processes that are gone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from graycat.errors import BrokerUnavailable
from graycat.queue.models import Attempt
from graycat.worker import web_disconnects
from graycat.worker.broker_acl import worker_rules
from graycat.worker.web_disconnects import AbandonedTasks
from tests.support.helpers import Valkey, eventually
from tests.support.workers import Worker, worker_on

CHANNEL = "graycat:web:a-process"


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Check:
    """The check of a worker, a second of its clock before each time."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.clock = Clock()
        self.tasks = AbandonedTasks(worker.runtime, self.clock)

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.now_s += 1.0
            self.tasks.cancel_abandoned()


@pytest.fixture
def check(mortal_broker: Valkey) -> Iterator[Check]:
    with worker_on(mortal_broker, {}) as worker:
        made = Check(worker)
        yield made
        made.tasks.close()


@pytest.fixture
def web(mortal_broker: Valkey, check: Check) -> Iterator[object]:
    """Yield what a web process listens with; the broker has been up for long."""
    with mortal_broker.client.pubsub() as pubsub:
        subscribe(mortal_broker, pubsub)
        attempt = check.worker.claim(channel=CHANNEL)
        with check.worker.runtime.running.track(attempt):
            check.run(int(web_disconnects.BROKER_GRACE_S) + 2)
        check.worker.records.finish_cancelled(attempt)
        yield pubsub


def subscribe(broker: Valkey, pubsub) -> None:
    pubsub.subscribe(CHANNEL)
    eventually(lambda: dict(broker.client.pubsub_numsub(CHANNEL))[CHANNEL.encode()] == 1)


def unsubscribe(broker: Valkey, pubsub) -> None:
    pubsub.unsubscribe(CHANNEL)
    eventually(lambda: dict(broker.client.pubsub_numsub(CHANNEL))[CHANNEL.encode()] == 0)


def cancelled(check: Check, attempt: Attempt, seconds: int) -> bool:
    """Return whether an attempt is cancelled within some seconds."""
    with check.worker.runtime.running.track(attempt) as call:
        check.run(seconds)
        marked = check.worker.records.get(attempt.task_id).get("cancel") == "cancel"
        assert (call.stopped == "cancelled") == marked
        return marked


def test_a_claim_says_who_waits(mortal_broker: Valkey, check: Check) -> None:
    assert (check.worker.claim().channels, check.worker.claim().kept) == ((), False)
    attempt = check.worker.claim(channel=CHANNEL, shown={})
    assert (attempt.channels, attempt.kept) == ((CHANNEL,), True)


def test_a_task_whose_web_process_is_gone_is_cancelled(mortal_broker: Valkey, check: Check, web) -> None:
    attempt = check.worker.claim(channel=CHANNEL)
    assert not cancelled(check, attempt, 10)
    unsubscribe(mortal_broker, web)
    assert not cancelled(check, attempt, 3)
    assert cancelled(check, attempt, 1)


def test_the_first_task_after_a_start_is_cancelled_as_soon_as_any_other(mortal_broker: Valkey, check: Check) -> None:
    check.run(int(web_disconnects.BROKER_GRACE_S) + 1)
    attempt = check.worker.claim(channel=CHANNEL)
    assert cancelled(check, attempt, int(web_disconnects.GONE_AFTER_S) + 1)


def test_a_further_task_of_a_web_process_that_is_gone_is_cancelled_at_once(mortal_broker, check: Check, web) -> None:
    unsubscribe(mortal_broker, web)
    assert cancelled(check, check.worker.claim(channel=CHANNEL), 4)
    check.run(30)
    assert cancelled(check, check.worker.claim(channel=CHANNEL), 1)


def test_a_hub_that_connects_again_keeps_its_tasks(mortal_broker: Valkey, check: Check, web) -> None:
    attempt = check.worker.claim(channel=CHANNEL)
    for _ in range(4):
        unsubscribe(mortal_broker, web)
        assert not cancelled(check, attempt, 3)
        subscribe(mortal_broker, web)
        assert not cancelled(check, attempt, 1)


def test_a_task_that_is_looked_at_by_its_id_goes_on(mortal_broker: Valkey, check: Check, web) -> None:
    unsubscribe(mortal_broker, web)
    assert not cancelled(check, check.worker.claim(channel=CHANNEL, shown={}), 20)
    assert not cancelled(check, check.worker.claim(), 20)


def test_a_task_that_another_web_process_follows_goes_on(mortal_broker: Valkey, check: Check, web) -> None:
    attempt = check.worker.claim(channel="graycat:web:gone")
    check.worker.records.subscribe(attempt.task_id, CHANNEL)
    assert not cancelled(check, attempt, 10)


def test_a_restart_of_the_broker_cancels_nothing(mortal_broker: Valkey, check: Check, web) -> None:
    attempt = check.worker.claim(channel=CHANNEL)
    assert not cancelled(check, attempt, 2)
    # The same data, no subscribers.
    mortal_broker.client.save()
    mortal_broker.kill()
    with check.worker.runtime.running.track(attempt) as call, pytest.raises(BrokerUnavailable):
        check.run(1)
    mortal_broker.start()
    assert not cancelled(check, attempt, int(web_disconnects.BROKER_GRACE_S + web_disconnects.GONE_AFTER_S) - 1)
    assert call.stopped is None


def test_a_worker_with_a_broker_user_of_its_own_may_ask(mortal_broker: Valkey) -> None:
    assert "+pubsub|numsub" in worker_rules("box", ["llm"])
