"""Whatever makes the broker unusable, each store says so with the one error that callers know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import ClusterDownError, MasterDownError, TryAgainError

from graycat.auth.minted import Grant, MintedTokens
from graycat.auth.signing import SigningKey
from graycat.batches.records import BatchRecords
from graycat.broker.client import broker_errors, connect
from graycat.broker.protocol import Broker
from graycat.broker.quarantine import Quarantine
from graycat.errors import BrokerUnavailable
from graycat.fleet.workers import WorkerRegistry
from graycat.queue.records import TaskRecords
from graycat.schedules.definition import Schedule
from graycat.schedules.records import ScheduleRecords
from graycat.settings import Settings
from graycat.webhooks.deliveries import Deliveries
from tests.support.batching import TWO
from tests.support.helpers import Valkey, message_of, new_task
from tests.support.servers import broker_that_says

REPLIES = {
    "full": b"-OOM command not allowed when used memory > 'maxmemory'.",
    "read-only": b"-READONLY You can't write against a read only replica.",
    "busy": b"-BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "disk full": b"-MISCONF Errors writing to the AOF file: No space left on device",
    "loading": b"-LOADING Valkey is loading the dataset in memory",
    "without its primary": b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "without replicas": b"-NOREPLICAS Not enough good replicas to write.",
    "cluster down": b"-CLUSTERDOWN The cluster is down",
    "cluster moving": b"-TRYAGAIN Multiple keys request during rehashing of slot",
    "another node's key": b"-MOVED 3999 127.0.0.1:6381",
    "asks another node": b"-ASK 3999 127.0.0.1:6381",
    "two slots": b"-CROSSSLOT Keys in request don't hash to the same slot",
    "no permission": b"-NOPERM User box has no permissions to run the 'evalsha' command",
    "login needed": b"-NOAUTH Authentication required.",
    "another password": b"-WRONGPASS invalid username-password pair or user is disabled.",
    "protected": b"-DENIED Valkey is running in protected mode because protected mode is enabled",
}

Call = Callable[[Broker, Settings], Any]


def batches(call: Callable[[BatchRecords], Any]) -> Call:
    return lambda client, settings: call(BatchRecords(client, settings))


def schedules(call: Callable[[ScheduleRecords], Any]) -> Call:
    return lambda client, settings: call(ScheduleRecords(client, settings))


def tokens(call: Callable[[MintedTokens], Any]) -> Call:
    return lambda client, settings: call(MintedTokens(client, SigningKey("a key of the tests" * 2)))


def put_schedule(client: Broker, settings: Settings) -> Any:
    body = {"name": "nightly", "cron": "0 1 * * *", "spec": TWO}
    return ScheduleRecords(client, settings).put(Schedule.read(body, "tests", settings))


def create_task(client: Broker, settings: Settings) -> Any:
    task = new_task()
    return TaskRecords(client, settings).create(task, message_of(task.id))


#: Each store call of the request path. True: it writes, so a full or read-only broker refuses it.
CALLS: dict[str, tuple[Call, bool]] = {
    "POST /batches": (batches(lambda store: store.submit(TWO, "tests")), True),
    "GET /batches": (batches(lambda store: store.list("tests")), False),
    "GET /batches/ID": (batches(lambda store: store.get("b", "tests")), False),
    "GET /batches/ID/items": (batches(lambda store: store.list_items("b")), False),
    "GET /batches/ID/manifest": (batches(lambda store: list(store.manifest_lines("b"))), False),
    "pause a batch": (batches(lambda store: store.pause("b")), False),
    "change a batch": (batches(lambda store: store.change_state("b", "queued", "paused", {})), False),
    "POST /schedules": (put_schedule, True),
    "GET /schedules": (schedules(lambda store: store.list("tests")), False),
    "GET /schedules/NAME": (schedules(lambda store: store.get("tests", "s")), False),
    "pause a schedule": (schedules(lambda store: store.pause("tests", "s")), False),
    "remove a schedule": (schedules(lambda store: store.remove("tests", "s")), False),
    "run a schedule": (schedules(lambda store: store.run_now("tests", "s", "r")), False),
    "next times of a schedule": (schedules(lambda store: store.list_next("tests", "s", 1)), False),
    "outcomes of a schedule": (schedules(lambda store: store.list_outcomes("tests", "s")), False),
    "POST /tokens": (tokens(lambda store: store.mint(Grant("ci"))), True),
    "GET /tokens": (tokens(lambda store: store.all()), False),
    "revoke a token": (tokens(lambda store: store.revoke("ci")), False),
    "a token's record": (tokens(lambda store: store.get("gc_abcdefgh")), False),
    "pause a queue": (lambda client, _: WorkerRegistry(client).pause_queue("llm"), True),
    "resume a queue": (lambda client, _: WorkerRegistry(client).resume_queue("llm"), False),
    "paused queues": (lambda client, _: WorkerRegistry(client).paused_queues(), False),
    "workers": (lambda client, _: WorkerRegistry(client).workers(), False),
    "due deliveries": (lambda client, _: Deliveries(client).list_due(0, 5), False),
    "a task's deliveries": (lambda client, _: Deliveries(client).summarize("t"), False),
    "begin a delivery": (lambda client, _: Deliveries(client).begin("t", "completed", 0), False),
    "create a task": (create_task, True),
    "a task's record": (lambda client, settings: TaskRecords(client, settings).get("t"), False),
    "a task's events": (lambda client, settings: TaskRecords(client, settings).events("t"), False),
    "cancel a task": (lambda client, settings: TaskRecords(client, settings).cancel("t"), False),
    "quarantine": (lambda client, _: Quarantine(client).put("test", b"x", "ValueError"), True),
}


@pytest.mark.parametrize("call", [pytest.param(call, id=name) for name, (call, _) in CALLS.items()])
def test_each_reply_that_it_cannot_be_used_now_is_the_broker_s_absence(
    call: Call, tmp_path_factory: Any, scripted: Any
) -> None:
    for reply in REPLIES.values():
        settings = scripted(tmp_path_factory.mktemp("b"), reply)
        client = connect(settings)
        try:
            with pytest.raises(BrokerUnavailable):
                call(client, settings)
        finally:
            client.close()


WRITES = [pytest.param(call, id=name) for name, (call, writes) in CALLS.items() if writes]


@pytest.mark.parametrize("call", WRITES)
def test_a_valkey_that_is_full_is_unavailable(call: Call, full_broker: Valkey) -> None:
    with pytest.raises(BrokerUnavailable):
        call(full_broker.client, full_broker.settings)


@pytest.mark.parametrize("call", WRITES)
def test_a_valkey_that_lacks_its_replicas_is_unavailable(call: Call, broker: Valkey) -> None:
    broker.client.config_set("min-replicas-to-write", 1)
    try:
        with pytest.raises(BrokerUnavailable):
            call(broker.client, broker.settings)
    finally:
        broker.client.config_set("min-replicas-to-write", 0)


@pytest.mark.parametrize(
    "error",
    [
        *(ClusterDownError("down"), MasterDownError("down"), TryAgainError("again"), redis.OutOfMemoryError("full")),
        redis.ResponseError("BUSY Valkey is busy running a script."),
        redis.ResponseError("Command # 1 (HSET k OOM) of pipeline caused error: MISCONF no disk"),
    ],
)
def test_it_is_known_by_the_first_word_of_the_reply(error: redis.RedisError) -> None:
    with pytest.raises(BrokerUnavailable), broker_errors():
        raise error


@pytest.mark.parametrize(
    "message",
    ["WRONGTYPE BUSY", "BUSYKEY Target key name already exists.", "BUSYGROUP there is one", "ERR OOM", ""],
)
def test_other_errors_are_not_the_broker_s_absence(message: str) -> None:
    with pytest.raises(redis.ResponseError), broker_errors():
        raise redis.ResponseError(message)


@pytest.fixture
def full_broker(broker: Valkey) -> Iterator[Valkey]:
    broker.client.config_set("maxmemory-policy", "noeviction")
    broker.client.config_set("maxmemory", 1)
    yield broker
    broker.client.config_set("maxmemory", 0)


@pytest.fixture
def scripted() -> Iterator[Callable[[Path, bytes], Settings]]:
    """Return how to start a broker that gives the same reply to every command; its settings."""
    with ExitStack() as running:

        def start(home: Path, reply: bytes) -> Settings:
            settings = Settings(home=home, api_tokens="tests:a-secret-of-the-tests")
            settings.broker_socket.parent.mkdir(parents=True, exist_ok=True)
            running.enter_context(broker_that_says(settings.broker_socket, [reply] * 200))
            return settings

        yield start
