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
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, changed

LOCK = "graycat:beat::lock"

Damage = Callable[[BrokerClient], object]


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


SCHEDULE, STATICS, ENTRY = "graycat:beat::schedule", "graycat:beat::statics", "graycat:beat:fire-schedules"


def replace_key(name: str, fill: Callable[[BrokerClient, str], object]) -> Damage:
    def damage(client: BrokerClient) -> None:
        client.delete(name)
        fill(client, name)

    return damage


def change_definition(**changes: Any) -> Damage:
    def damage(client: BrokerClient) -> None:
        definition = json.loads(client.hget(ENTRY, "definition") or b"")
        client.hset(ENTRY, "definition", json.dumps(definition | changes))

    return damage


DAMAGES: dict[str, Damage] = {
    "all is gone": lambda client: client.flushall(),
    "the entry is gone": lambda client: client.delete(ENTRY),
    "the schedule is gone": lambda client: client.delete(SCHEDULE),
    "the statics are gone": lambda client: client.delete(STATICS),
    "the schedule is a string": replace_key(SCHEDULE, lambda client, name: client.set(name, "x")),
    "the statics are a string": replace_key(STATICS, lambda client, name: client.set(name, "x")),
    "the entry is a string": replace_key(ENTRY, lambda client, name: client.set(name, "x")),
    "the lock is a list": replace_key(LOCK, lambda client, name: client.lpush(name, "x")),
    "half a definition": lambda client: client.hset(ENTRY, "definition", '{"name": "fi'),
    "a definition that is no object": lambda client: client.hset(ENTRY, "definition", "[1]"),
    "an empty definition": lambda client: client.hset(ENTRY, "definition", "{}"),
    "a definition that is no text": lambda client: client.hset(ENTRY, "definition", b"\xff"),
    "half a run": lambda client: client.hset(ENTRY, "meta", '{"last_run_at": {"__ty'),
    "a run that is none": lambda client: client.hset(ENTRY, "meta", '{"last_run_at": "noon"}'),
    "a run that is no object": lambda client: client.hset(ENTRY, "meta", "7"),
    "another task": change_definition(task="control.sleep"),
    "another queue": change_definition(options={}),
    "another interval": change_definition(schedule=None),
    "a field of a newer version": change_definition(mood="good"),
    "it is disabled": change_definition(enabled=False),
}


def ticks_again(service: Any, client: BrokerClient) -> Any:
    """Tick as ``graycat beat`` does until a task is sent; return the service that has sent it."""
    client.delete("control")
    deadline = time.monotonic() + 10
    while not client.llen("control"):
        assert time.monotonic() < deadline
        try:
            service.scheduler.tick()
        except LockError:
            service.scheduler.close()
            service = service_of(service.settings)
    return service


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("damage", [pytest.param(damage, id=name) for name, damage in DAMAGES.items()])
def test_what_the_broker_holds_is_rebuilt_if_it_is_unusable(broker: Valkey, damage: Damage, running: bool) -> None:
    service = service_of(broker.settings)
    service.scheduler.tick()
    if not running:
        service.scheduler.close()
    damage(broker.client)
    if not running:
        close(service)
        service = service_of(broker.settings)
    service.settings = broker.settings
    service = ticks_again(service, broker.client)
    service.scheduler.close()
    close(service)


@pytest.mark.parametrize("setting", [("maxmemory", 1), ("min-replicas-to-write", 1)])
def test_a_broker_that_refuses_to_write_is_waited_for(broker: Valkey, setting: tuple[str, int], caplog: Any) -> None:
    service = service_of(broker.settings)
    broker.client.config_set(*setting)
    try:
        for _ in range(3):
            service.scheduler.tick()
        assert "broker unavailable" in caplog.text
        assert "Traceback" not in caplog.text
    finally:
        broker.client.config_set(setting[0], 0)
    service.settings = broker.settings
    service = ticks_again(service, broker.client)
    service.scheduler.close()
    close(service)
