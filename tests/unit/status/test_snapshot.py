from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from graycat.broker import keys
from graycat.errors import BrokerUnavailable
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import WorkerRegistry
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from graycat.status import snapshot
from graycat.status.snapshot import SnapshotReader
from tests.support.broker import BrokerClient
from tests.support.helpers import accepted, claimed

LLM = WorkerStatus(
    name="llm@box", queues=("llm", "llm.batch"), engine="xllamacpp", engine_state="ready", consuming=True, slots=4,
    busy=1, props="", models=("gemma",),
)  # fmt: skip


@pytest.fixture
def observer(settings: Settings, client: BrokerClient, monkeypatch: pytest.MonkeyPatch) -> SnapshotReader:
    monkeypatch.setattr(snapshot, "MAX_AGE_S", 0.0)
    return SnapshotReader(settings)


@pytest.fixture
def submitted(records: TaskRecords, client: BrokerClient) -> Callable[..., str]:
    """Return how to submit a task, some seconds ago."""

    def submit(age_s: float, **changes: str) -> str:
        task_id = accepted(records, **changes)
        client.hincrby(keys.record_key(task_id), "submitted_ms", -int(age_s * 1000))
        return task_id

    return submit


def test_an_idle_broker_has_empty_queues(observer: SnapshotReader) -> None:
    seen = observer.read()
    assert {(q.depth, q.oldest_s, q.consumers, q.paused) for q in seen.queues.values()} == {(0, 0.0, 0, False)}
    assert set(seen.queues) == {"llm", "llm.quick", "sd", "llm.batch", "sd.batch", "control"}
    assert (seen.workers, seen.missed, seen.deliveries) == ([], [], 0)


def test_who_waits_for_a_turn_waits_in_the_queue(observer: SnapshotReader, submitted) -> None:
    submitted(5)
    submitted(60)
    submitted(7, owner="another")
    seen = observer.read().queues["llm"]
    assert seen.depth == 3
    assert 60 <= seen.oldest_s < 90


def test_tasks_of_models_and_of_workers_count_for_their_queue(observer: SnapshotReader, client, submitted) -> None:
    WorkerRegistry(client).report(LLM)
    submitted(9, queue="llm:gemma")
    submitted(3, queue="llm")
    submitted(2, queue="sd:@sd@gone", kind="sd.txt2img")
    queues = observer.read().queues
    assert (queues["llm"].depth, queues["sd"].depth) == (2, 1)
    assert queues["llm"].oldest_s >= 9


def test_what_has_ended_waits_no_longer(observer: SnapshotReader, records: TaskRecords, submitted) -> None:
    records.cancel(submitted(50))
    submitted(4, owner="another")
    seen = observer.read().queues["llm"]
    assert seen.depth == 1
    assert 4 <= seen.oldest_s < 40


def test_what_runs_waits_no_longer(observer: SnapshotReader, records: TaskRecords, client, submitted) -> None:
    task_id = submitted(50)
    client.rpop("llm")
    claimed(records, task_id)
    assert (observer.read().queues["llm"].depth, observer.read().queues["llm"].oldest_s) == (0, 0.0)


def test_consumers_are_those_that_serve(observer: SnapshotReader, client) -> None:
    fleet = WorkerRegistry(client)
    fleet.report(LLM)
    fleet.pause_queue("llm.batch")
    queues = observer.read().queues
    assert (queues["llm"].consumers, queues["sd"].consumers) == (1, 0)
    assert (queues["llm.batch"].paused, queues["llm"].paused) == (True, False)


def test_the_control_queue_is_as_late_as_its_deliveries(observer: SnapshotReader, client) -> None:
    seconds, _ = client.time()
    client.zadd(keys.DELIVERIES, {"task ended": (seconds - 30) * 1000, "later": (seconds + 900) * 1000})
    seen = observer.read()
    assert seen.deliveries == 2
    assert 29 <= seen.queues["control"].oldest_s < 60


def test_a_message_that_is_none_of_ours_is_passed_over(observer: SnapshotReader, client, submitted) -> None:
    for message in (b"no JSON", b"[]", b'{"headers": 1}', b'{"headers": {"id": 7}}'):
        client.rpush("llm", message)
    submitted(20)
    assert observer.read().queues["llm"].oldest_s >= 20


def test_a_look_is_good_for_a_moment(settings: Settings, submitted, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(snapshot, "time", SimpleNamespace(monotonic=lambda: now))
    observer = SnapshotReader(settings)
    first = observer.read()
    submitted(1)
    now += snapshot.MAX_AGE_S * 0.9
    assert observer.read() is first
    now += snapshot.MAX_AGE_S * 0.2
    assert observer.read() is not first


def test_a_look_that_took_long_serves_all_who_waited_for_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(snapshot, "time", SimpleNamespace(monotonic=lambda: now))
    observer = SnapshotReader(settings)
    take = observer._take

    def take_slowly() -> snapshot.Snapshot:
        nonlocal now
        now += 10 * snapshot.MAX_AGE_S
        return take()

    monkeypatch.setattr(observer, "_take", take_slowly)
    assert observer.read() is observer.read()


def test_without_a_broker_nothing_is_seen(no_broker: Settings) -> None:
    with pytest.raises(BrokerUnavailable):
        SnapshotReader(no_broker).read()


def test_the_broker_tells_its_memory_and_what_tasks_hold(observer: SnapshotReader, client, submitted) -> None:
    client.config_set("maxmemory", 10**9)
    try:
        submitted(1)
        held = observer.read().held
        assert (held.most, held.stored) == (10**9, int(client.hget(keys.STORED, "*")))
        assert 0 < held.used < 10**9
        client.hset(keys.STORED, "*", "rubbish")
        assert observer.read().held.stored == 0
    finally:
        client.config_set("maxmemory", 0)


def test_a_beat_is_seen_by_its_lock(observer: SnapshotReader, client) -> None:
    assert (observer.read().beat, observer.read().schedules) == (False, 0)
    client.set(keys.BEAT_LOCK, "a beat's", ex=5)
    client.sadd(keys.SCHEDULES, "tests:nightly")
    assert (observer.read().beat, observer.read().schedules) == (True, 1)
