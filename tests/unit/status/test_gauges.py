from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from graycat.errors import BrokerUnavailable
from graycat.metrics.server import join_collectors
from graycat.status.gauges import FleetGauges
from graycat.status.snapshot import Snapshot
from tests.support.looks import LOOK, WORKER


def gauges(look: Snapshot = LOOK) -> CollectorRegistry:
    return join_collectors(FleetGauges(lambda: look))


def test_queues_show_what_waits_and_who_serves() -> None:
    value = gauges().get_sample_value
    assert [value(f"graycat_queue_{name}", {"queue": "llm"}) for name in ("depth", "oldest_seconds")] == [7, 12.5]
    assert [value(f"graycat_queue_{name}", {"queue": "sd"}) for name in ("consumers", "paused")] == [2, 1]


def test_a_family_shows_how_many_workers_it_should_have() -> None:
    value = gauges().get_sample_value
    assert [value(f"graycat_scale_{name}", {"family": "llm"}) for name in ("hint", "need")] == [6, 9]
    # What is not known is missing: 0 would end all workers.
    assert value("graycat_scale_hint", {"family": "sd"}) is None


def test_workers_show_how_they_are() -> None:
    value = gauges().get_sample_value
    names = ("worker_up", "worker_consuming", "worker_paused", "engine_slots", "engine_slots_busy", "engine_failures")
    assert [value(f"graycat_{name}", {"worker": WORKER.name}) for name in names] == [1, 0, 1, 4, 2, 3]
    assert value("graycat_worker_stuck_loops", {"worker": WORKER.name}) == 2


@pytest.mark.parametrize("name", ["control@box", "quick@box"])
def test_who_has_no_engine_or_no_slots_counts_none(name: str) -> None:
    value = gauges().get_sample_value
    assert value("graycat_worker_up", {"worker": name}) == 1
    assert value("graycat_engine_slots", {"worker": name}) is None
    assert (value("graycat_engine_failures", {"worker": name}) is None) is (name == "control@box")


def test_a_worker_that_fell_silent_is_down() -> None:
    value = gauges().get_sample_value
    assert value("graycat_worker_up", {"worker": "sd@box"}) == 0
    assert value("graycat_worker_consuming", {"worker": "sd@box"}) is None


def test_an_engine_is_in_one_state() -> None:
    value = gauges().get_sample_value
    states = ("stopped", "downloading", "loading", "ready", "stuck")
    labels = {"worker": WORKER.name, "engine": "llama-server"}
    assert [value("graycat_engine_state", labels | {"state": state}) for state in states] == [0, 0, 1, 0, 0]
    assert value("graycat_engine_state", {"worker": "control@box", "engine": "", "state": "ready"}) is None


def test_gpus_show_in_base_units() -> None:
    value = gauges().get_sample_value
    names = ("utilization_ratio", "memory_used_bytes", "memory_total_bytes", "temperature_celsius")
    labels = {"worker": WORKER.name, "gpu": "1"}
    assert [value(f"graycat_gpu_{name}", labels) for name in names] == [0.42, 3000, 8000, 61]


def test_the_broker_shows_what_it_holds() -> None:
    value = gauges().get_sample_value
    names = ("broker_up", "broker_events_bytes", "broker_artifacts_bytes", "webhook_deliveries_pending")
    assert [value(f"graycat_{name}") for name in names] == [1, 1000, 2000, 3]
    memory = ("broker_memory_used_bytes", "broker_memory_max_bytes", "stored_bytes")
    assert [value(f"graycat_{name}") for name in memory] == [5000, 9000, 600]


def test_a_broker_that_is_away_is_the_only_news() -> None:
    def away() -> Snapshot:
        raise BrokerUnavailable

    families = list(FleetGauges(away).collect())
    assert [(family.name, family.samples[0].value) for family in families] == [("graycat_broker_up", 0)]


def test_a_process_that_has_ended_shows() -> None:
    value = gauges().get_sample_value
    labels = {"machine": "box", "process": "sd"}
    names = ("up", "restarts", "crash_loop")
    assert [value(f"graycat_process_{name}", labels) for name in names] == [0, 4, 1]
    assert value("graycat_process_up", labels | {"process": "web"}) == 1


def test_a_beat_that_is_gone_shows() -> None:
    value = gauges().get_sample_value
    assert (value("graycat_beat_up"), value("graycat_schedules")) == (1, 2)
    assert gauges(replace(LOOK, beat=False)).get_sample_value("graycat_beat_up") == 0
