from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery, signals
from celery.beat import Service
from redis.exceptions import LockError

from graycat.celeryapp import create_celery
from graycat.schedules import ticker
from graycat.settings import Settings
from tests.support.helpers import Valkey, changed

LOCK = "graycat:beat::lock"


def service_of(settings: Settings) -> Any:
    """Return a beat that has its lock, and has not ticked yet; always something is due."""
    app: Celery = create_celery(changed(settings, schedule_tick_s=0.001), kind="beat")
    service = Service(app, scheduler_cls=app.conf.beat_scheduler)
    signals.beat_init.send(sender=service)
    return service


@pytest.fixture
def beat(broker: Valkey) -> Iterator[Callable[[], Any]]:
    """Return how to start a beat on the shared broker."""
    services: list[Any] = []

    def start() -> Any:
        services.append(service_of(broker.settings))
        return services[-1]

    yield start
    for service in services:
        service.scheduler.lock = None
        service.scheduler.close()
        close(service)


def close(service: Any) -> None:
    """Let go of the connections of a beat."""
    service.app.redbeat_redis.close()
    service.scheduler.connection.close()


def test_a_tick_sends_the_task_that_fires(beat, broker: Valkey) -> None:
    service = beat()
    service.scheduler.tick()
    message = json.loads(broker.client.lpop("control"))
    assert message["headers"]["task"] == "control.fire_schedules"
    # Where clocks differ, it would be over before it came.
    assert message["headers"]["expires"] is None
    assert broker.client.get(LOCK) is not None
    assert 0 < broker.client.pttl(LOCK) <= 5_000
    assert create_celery(broker.settings, kind="beat").conf.redbeat_lock_timeout == 15


def test_a_beat_whose_clock_is_behind_that_of_the_one_before_ticks_at_once(beat, broker: Valkey) -> None:
    service = beat()
    key = service.scheduler.Entry.generate_key(service.app, "fire-schedules")
    entry = service.scheduler.Entry.from_key(key, app=service.app)
    entry.reschedule(service.app.now() + timedelta(hours=1))
    deadline = time.monotonic() + 30
    while not broker.client.llen("control"):
        assert time.monotonic() < deadline
        service.scheduler.tick()


def test_only_the_beat_that_has_the_lock_ticks(beat, broker: Valkey) -> None:
    service = beat()
    service.scheduler.tick()
    broker.client.set(LOCK, "another's")
    with pytest.raises(LockError):
        service.scheduler.tick()


def test_one_that_never_got_the_lock_does_not_tick(beat) -> None:
    service = beat()
    service.scheduler.lock = None
    with pytest.raises(LockError):
        service.scheduler.tick()


def test_no_more_ticks_are_sent_while_the_queue_is_full(beat, broker: Valkey) -> None:
    service = beat()
    deadline = time.monotonic() + 30
    while broker.client.llen("control") < ticker.MAX_WAITING_MESSAGES:
        assert time.monotonic() < deadline
        service.scheduler.tick()
    for _ in range(5):
        service.scheduler.tick()
    assert broker.client.llen("control") == ticker.MAX_WAITING_MESSAGES


def test_a_broker_that_is_away_for_a_while_costs_neither_beat_nor_lock(mortal_broker: Valkey) -> None:
    service = service_of(mortal_broker.settings)
    service.scheduler.tick()
    mortal_broker.kill()
    assert service.scheduler.tick() == ticker.RETRY_INTERVAL_S
    mortal_broker.start()
    service.scheduler.tick()
    assert service.scheduler.lock.owned()
    service.scheduler.close()
    assert mortal_broker.client.get(LOCK) is None
    close(service)
