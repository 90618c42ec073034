from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from graycat.broker import keys
from graycat.broker.client import connect
from graycat.errors import BrokerUnavailable
from graycat.fleet.reports import GPU_FIELDS, WorkerStatus
from graycat.fleet.workers import MISSED_FOR_S, SILENT_AFTER_S, WorkerRegistry, select_serving
from graycat.loops.unexpected import UNEXPECTED
from graycat.settings import Settings
from tests.support.broker import BrokerClient
from tests.support.helpers import eventually

READY = WorkerStatus(
    name="llm@box",
    queues=("llm", "llm.batch"),
    engine="xllamacpp",
    engine_state="ready",
    consuming=True,
    slots=4,
    busy=1,
    props='{"total_slots":4,"model":"süß"}',
    gpu=1,
    gpu_state={"utilization": 42, "memory_used": 3000, "memory_total": 8000, "temperature": 61},
    left=("llm.batch",),
)


@pytest.fixture
def fleet(client: BrokerClient) -> WorkerRegistry:
    return WorkerRegistry(client)


def test_a_report_comes_back_as_it_was(fleet: WorkerRegistry) -> None:
    fleet.report(READY)
    assert fleet.workers() == [READY]


def test_the_newest_report_counts(fleet: WorkerRegistry) -> None:
    fleet.report(READY)
    fleet.report(replace(READY, engine_state="loading", consuming=False))
    (worker,) = fleet.workers()
    assert (worker.engine_state, worker.consuming) == ("loading", False)


def test_workers_are_listed_by_name(fleet: WorkerRegistry) -> None:
    for name in ("quick@b", "llm@a", "llm@b"):
        fleet.report(replace(READY, name=name))
    assert [worker.name for worker in fleet.workers()] == ["llm@a", "llm@b", "quick@b"]


def test_an_empty_fleet_has_no_workers(fleet: WorkerRegistry) -> None:
    assert fleet.workers() == []


def test_a_worker_that_leaves_is_forgotten(fleet: WorkerRegistry, client: BrokerClient) -> None:
    fleet.report(READY)
    fleet.leave(READY.name)
    assert fleet.workers() == []
    assert client.keys("*") == []


def test_a_silent_worker_is_not_counted_then_missed_and_then_forgotten(
    fleet: WorkerRegistry, client: BrokerClient
) -> None:
    fleet.report(READY)
    fleet.report(replace(READY, name="quick@box"))
    left_ms = client.pttl(keys.worker_key(READY.name))
    assert SILENT_AFTER_S * 1000 - 1000 < left_ms <= SILENT_AFTER_S * 1000
    client.pexpire(keys.worker_key(READY.name), 1)
    eventually(lambda: [worker.name for worker in fleet.workers()] == ["quick@box"])
    assert fleet.alive_and_missing()[1] == [READY.name]
    client.zincrby(keys.fleet_key("llm"), -MISSED_FOR_S, READY.name)
    assert fleet.alive_and_missing()[1] == []
    assert client.zrange(keys.fleet_key("llm"), 0, -1) == [b"quick@box"]


def test_a_worker_that_leaves_is_not_missed(fleet: WorkerRegistry) -> None:
    fleet.report(READY)
    fleet.leave(READY.name)
    assert fleet.alive_and_missing() == ([], [])


def test_without_a_broker_nobody_knows_the_fleet(no_broker: Settings) -> None:
    fleet = WorkerRegistry(connect(no_broker))
    for call in (fleet.workers, lambda: fleet.report(READY), lambda: fleet.leave("llm@box")):
        with pytest.raises(BrokerUnavailable):
            call()


@pytest.mark.parametrize(
    ("status", "serves"),
    [
        (READY, True),
        (replace(READY, queues=("llm.quick",)), False),
        (replace(READY, queues=()), False),
        (replace(READY, consuming=False), False),
        (replace(READY, engine_state="loading"), False),
        (replace(READY, engine_state="stopped"), False),
        (replace(READY, busy=4), True),
    ],
)
def test_only_a_worker_that_takes_tasks_with_a_healthy_engine_serves(status: WorkerStatus, serves: bool) -> None:
    assert select_serving([status], "llm") == ([status] if serves else [])


SD = replace(READY, name="sd@box", queues=("sd", "sd.batch"), engine="forge", slots=1, catalog="v1")
CATALOG = {"samplers": b'[{"name":"Euler"}]', "options": b"{}"}


def test_a_catalog_comes_back_as_the_engine_wrote_it(fleet: WorkerRegistry) -> None:
    fleet.report(SD, CATALOG)
    assert fleet.catalog("sd@box") == CATALOG
    assert fleet.workers() == [SD]


def test_a_catalog_is_written_once_and_kept_alive(fleet: WorkerRegistry, client: BrokerClient) -> None:
    fleet.report(SD, CATALOG)
    # Still there after the next report, so that did not write it again.
    client.hset(keys.catalog_key("sd@box"), "mark", b"")
    client.pexpire(keys.catalog_key("sd@box"), 500)
    fleet.report(SD, CATALOG)
    assert fleet.catalog("sd@box") == CATALOG | {"mark": b""}
    assert client.pttl(keys.catalog_key("sd@box")) > 1000 * (SILENT_AFTER_S - 1)


def test_a_catalog_that_changes_replaces_the_old_one(fleet: WorkerRegistry) -> None:
    fleet.report(SD, CATALOG)
    fleet.report(replace(SD, catalog="v2"), {"loras": b"[]"})
    assert fleet.catalog("sd@box") == {"loras": b"[]"}


def test_a_catalog_that_the_broker_has_lost_is_written_again(fleet: WorkerRegistry, client: BrokerClient) -> None:
    fleet.report(SD, CATALOG)
    client.flushall()
    fleet.report(SD, CATALOG)
    fleet.report(SD, CATALOG)
    assert fleet.catalog("sd@box") == CATALOG


def test_a_silent_worker_s_catalog_is_gone_with_it(fleet: WorkerRegistry, client: BrokerClient) -> None:
    fleet.report(SD, CATALOG)
    left_ms = client.pttl(keys.catalog_key("sd@box"))
    assert 1000 * (SILENT_AFTER_S - 1) < left_ms <= 1000 * SILENT_AFTER_S
    fleet.leave("sd@box")
    assert (fleet.catalog("sd@box"), client.keys("*")) == ({}, [])


def test_a_worker_without_a_catalog_has_none(fleet: WorkerRegistry, client: BrokerClient) -> None:
    fleet.report(READY)
    fleet.report(READY, {})
    assert (fleet.catalog(READY.name), client.exists(keys.catalog_key(READY.name))) == ({}, 0)


def test_a_field_of_a_newer_version_is_ignored(fleet: WorkerRegistry, client: BrokerClient) -> None:
    fleet.report(READY)
    key = keys.worker_key(READY.name)
    client.set(key, json.dumps(json.loads(client.get(key) or b"") | {"of_the_next_release": 1}))
    assert fleet.workers() == [READY]


def test_a_paused_queue_whose_name_is_no_text_hides_no_other(fleet: WorkerRegistry, client: BrokerClient) -> None:
    before = UNEXPECTED.labels("fleet")._value.get()
    fleet.pause_queue("llm")
    client.sadd(keys.PAUSED_QUEUES, b"\xff")
    assert fleet.paused_queues() == {"llm"}
    assert UNEXPECTED.labels("fleet")._value.get() == before + 1


@pytest.mark.parametrize(
    "field", [{"gpu_state": dict.fromkeys(GPU_FIELDS, float("inf"))}, {"retry_in_s": 10**400}], ids=["inf", "huge"]
)
def test_a_number_that_is_too_large_hides_no_other_worker(
    fleet: WorkerRegistry, client: BrokerClient, field: dict[str, object]
) -> None:
    fleet.report(replace(READY, name="good"))
    fleet.report(replace(READY, name="odd"))
    client.set(keys.worker_key("odd"), json.dumps(asdict(replace(READY, name="odd")) | field))
    assert [worker.name for worker in fleet.workers()] == ["good"]
