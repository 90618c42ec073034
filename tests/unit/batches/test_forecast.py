from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from graycat.batches import forecast
from graycat.batches.forecast import BatchForecaster, Estimate, Rivals, estimate
from graycat.batches.spec.options import BatchOptions
from graycat.batches.throughput import ThroughputStats
from graycat.broker import keys
from graycat.fleet.workers import WorkerRegistry
from tests.support.helpers import Valkey, accepted

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
PLAIN = BatchOptions()


def eta(needed: float, options: BatchOptions = PLAIN, batch_id: str = "", **rivals: Any) -> float | None:
    known: dict[str, Any] = {"work": {}, "engines": 2, "ms_per_work": 1000.0}
    return estimate(needed, options, Rivals(**(known | rivals)), NOON, batch_id).eta_s


def test_a_batch_alone_takes_its_own_work() -> None:
    assert eta(100.0) == 50.0


def test_batches_take_turns_so_of_each_other_as_much_is_made_meanwhile() -> None:
    assert eta(100.0, work={"small": 20.0, "large": 5000.0, "own": 100.0}, batch_id="own") == 110.0


def test_interactive_images_go_first() -> None:
    assert eta(100.0, interactive_s=30.0) == 65.0


def test_a_batch_with_fewer_gpus_takes_longer() -> None:
    assert eta(100.0, BatchOptions(max_gpus=1)) == 100.0
    assert eta(100.0, BatchOptions(max_gpus=9)) == 50.0


@pytest.mark.parametrize(
    ("window", "work", "expected"),
    [
        # Opens in an hour, is open for two.
        ("13:00-15:00", 7200.0, 7200.0),
        # Half of it on the next day.
        ("13:00-15:00", 4 * 7200.0, 86400.0 + 3 * 3600.0),
        # Open for an hour more.
        ("11:00-13:00", 7200.0, 3600.0),
        ("11:00-13:00", 2 * 7200.0, 23 * 3600.0 + 3600.0),
        # Over midnight, and closed since noon.
        ("22:00-12:00", 2.0, 10 * 3600.0 + 1.0),
        ("00:00-24:00", 7200.0, 3600.0),
    ],
)
def test_a_batch_with_a_window_goes_on_within_it(window: str, work: float, expected: float) -> None:
    assert eta(work, BatchOptions(window=window)) == expected


@pytest.mark.parametrize(
    ("rivals", "reason"),
    [({"engines": 0}, "no engine takes"), ({"ms_per_work": None}, "no image of a batch was measured")],
)
def test_what_cannot_be_known_is_null_with_a_reason(rivals: dict[str, Any], reason: str) -> None:
    known: dict[str, Any] = {"work": {}, "engines": 2, "ms_per_work": 1000.0}
    found = estimate(1.0, PLAIN, Rivals(**(known | rivals)), NOON)
    assert found.eta_s is None
    assert reason in found.reason


def live_batch(broker: Valkey, name: str, **fields: Any) -> None:
    """Put a live batch of ten images with ten megapixel-steps into the broker; four of them are done."""
    record: dict[Any, Any] = {"state": "running", "terms": "{}", "work": 10, "total": 10} | fields
    broker.client.hset(keys.batch_key(name), mapping=record)
    broker.client.zadd(keys.LIVE_BATCHES, {name: 1})
    for number in range(10):
        broker.client.zadd(keys.batch_part_key(name, "done" if number < 4 else "waiting"), {str(number): number})


def test_what_goes_on_beside_a_batch_is_read_from_the_broker(broker: Valkey, records) -> None:
    throughput = ThroughputStats(broker.client)
    throughput.record("sd.txt2img", "one", 1.0, 1000)
    throughput.set_engine_count(1)
    live_batch(broker, "other")
    live_batch(broker, "paused", state="paused")
    live_batch(broker, "damaged", work="?")
    live_batch(broker, "closed", terms='{"window": "00:00-00:01", "timezone": "Mars"}')
    broker.client.hset(keys.means_key("sd"), "sd", 2000)
    for _ in range(3):
        accepted(records, kind="sd.txt2img", queue="sd")
    forecaster = BatchForecaster(broker.client, throughput)
    # Its own 100, six of the other, and three images of two seconds.
    assert forecaster.forecast(100.0, PLAIN) == Estimate(112.0)
    assert forecaster.forecast(100.0, PLAIN, engines=2) == Estimate(56.0)


def test_what_waits_in_a_paused_queue_is_not_before_a_batch(broker: Valkey, records) -> None:
    throughput = ThroughputStats(broker.client)
    throughput.record("sd.txt2img", "one", 1.0, 1000)
    throughput.set_engine_count(1)
    broker.client.hset(keys.means_key("sd"), "sd", 2000)
    for _ in range(3):
        accepted(records, kind="sd.txt2img", queue="sd")
    WorkerRegistry(broker.client).pause_queue("sd")
    assert BatchForecaster(broker.client, throughput).forecast(100.0, PLAIN) == Estimate(100.0)
    WorkerRegistry(broker.client).pause_queue("sd.batch")
    found = BatchForecaster(broker.client, throughput).forecast(100.0, PLAIN)
    assert found == Estimate(None, "the queue sd.batch is paused")


def commands_sent(broker: Valkey) -> int:
    """Return how many commands the broker has had."""
    return int(broker.client.info("stats")["total_commands_processed"])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Have the forecaster ask this clock; a test moves it."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(forecast, "time", SimpleNamespace(monotonic=lambda: clock.now, time=lambda: NOON), raising=True)
    return clock


@pytest.mark.parametrize("measured", [False, True])
def test_many_batches_cost_one_look(broker: Valkey, clock: SimpleNamespace, *, measured: bool) -> None:
    throughput = ThroughputStats(broker.client)
    for number in range(100):
        live_batch(broker, f"batch {number}")
    if measured:
        throughput.record("sd.txt2img", "one", 1.0, 1000)
        throughput.set_engine_count(1)
    forecaster = BatchForecaster(broker.client, throughput)
    before = commands_sent(broker)
    found = [forecaster.forecast(1.0, PLAIN).eta_s for _ in range(100)]
    # Five for each batch, and a few beside them.
    assert commands_sent(broker) - before < 1000
    assert [eta_s is not None for eta_s in found] == [measured] * 100


def test_what_is_not_known_is_looked_for_again_after_a_second(broker: Valkey, clock: SimpleNamespace) -> None:
    throughput = ThroughputStats(broker.client)
    forecaster = BatchForecaster(broker.client, throughput)
    assert forecaster.forecast(1.0, PLAIN).eta_s is None
    throughput.record("sd.txt2img", "one", 1.0, 1000)
    throughput.set_engine_count(1)
    clock.now += forecast.MAX_AGE_S
    assert forecaster.forecast(1.0, PLAIN).eta_s == 1.0


def test_a_look_that_took_long_is_good_for_as_long_as_any_other(
    broker: Valkey, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def look_slowly(_: BatchForecaster) -> dict[str, float]:
        looks.append(clock.now)
        clock.now += 5 * forecast.MAX_AGE_S
        return {}

    monkeypatch.setattr(BatchForecaster, "_read_work", look_slowly)
    forecaster = BatchForecaster(broker.client, ThroughputStats(broker.client))
    for _ in range(3):
        forecaster.forecast(1.0, PLAIN)
    assert len(looks) == 1
