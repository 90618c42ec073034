from __future__ import annotations

import pytest

from graycat.batches.throughput import ThroughputStats
from tests.support.helpers import Valkey


def test_before_any_measurement_there_is_no_estimate(broker: Valkey) -> None:
    stats = ThroughputStats(broker.client)
    assert (stats.estimate_gpu_s(10), stats.estimate_eta_s(10)) == (None, None)


def test_estimates_follow_from_what_was_measured(broker: Valkey) -> None:
    stats = ThroughputStats(broker.client)
    stats.record("sd.txt2img", "one", 5.0, 5000)
    assert (stats.estimate_gpu_s(10), stats.estimate_eta_s(10)) == (10.0, None)
    stats.set_engine_count(4)
    assert stats.estimate_eta_s(10) == 2.5
    stats.record("sd.txt2img", "one", 5.0, 10000)
    assert stats.estimate_gpu_s(10) == pytest.approx(11.0)
    stats.record("sd.txt2img", "one", 5.0, 0)
    assert stats.estimate_gpu_s(10) == pytest.approx(11.0)
    mean_ms = broker.client.hget("graycat:batches:speeds", "sd.txt2img@one") or b"0"
    assert float(mean_ms) == pytest.approx(1100)


def test_damaged_averages_are_none_and_are_replaced(broker: Valkey) -> None:
    stats = ThroughputStats(broker.client)
    broker.client.hset("graycat:batches:speeds", mapping={"sd": "fast", "engines": b"\xff", "sd.txt2img": "nan"})
    assert (stats.estimate_gpu_s(1.0), stats.estimate_eta_s(1.0)) == (None, None)
    stats.record("sd.txt2img", "sd0@here", 1.0, 1000.0)
    stats.set_engine_count(1)
    assert (stats.estimate_gpu_s(1.0), stats.estimate_eta_s(1.0)) == (1.0, 1.0)
