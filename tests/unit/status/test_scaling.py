"""How many workers a family would need, and for how long that is held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from graycat.broker.keys import means_key, needs_key
from graycat.families import LLM, SD
from graycat.fleet.reports import WorkerStatus, parse_report
from graycat.fleet.workers import WorkerRegistry
from graycat.settings import Settings
from graycat.status import snapshot
from graycat.status.scaling import Demand, NeedHistory, ScaleHint, find_hint
from graycat.status.snapshot import SnapshotReader
from tests.support.broker import BrokerClient
from tests.support.helpers import accepted, changed

#: A task of 6 s, and of 2 s, where each may wait for 60 s: one waiting task is a tenth of a slot, ten make one.
SIX_S, TWO_S = {"llm": 6000}, {"llm": 2000}
HOSTILE = {"slots": 10**6, "busy": 10**6, "busy_batch": 10**6}


def worker(name: str = "llm@box", **values: Any) -> WorkerStatus:
    return WorkerStatus(**{
        "name": name, "queues": ("llm", "llm.batch"), "engine": "llama-server", "engine_state": "ready",
        "consuming": True, "slots": 4, "busy": 0, "props": "", **values,
    })  # fmt: skip


def hint(demand: Demand, *workers: WorkerStatus, family: Any = LLM, **settings: Any) -> ScaleHint:
    return find_hint(family, Settings(**settings), demand, workers)


@pytest.mark.parametrize(
    ("demand", "busy", "need"),
    [
        (Demand(), 0, 0),
        (Demand(), 1, 1),
        (Demand(waiting=1), 0, 1),
        # 40 tasks of 6 s in 60 s are the work of four slots, and that is one worker.
        (Demand(waiting=40, means_ms=SIX_S), 0, 1),
        (Demand(waiting=41, means_ms=SIX_S), 0, 2),
        (Demand(waiting=40, means_ms=SIX_S), 4, 2),
        # More slots than tasks never help, however long they take.
        (Demand(waiting=8, means_ms={"llm": 500_000}), 0, 2),
        # Calls that need no slot want a worker beside which they run, and no more.
        (Demand(quick=500), 0, 1),
        # Not measured: 10 s each.
        (Demand(waiting=48), 0, 2),
    ],
)
def test_the_need_is_what_runs_and_what_waits_over_the_time_it_may_wait(demand: Demand, busy: int, need: int) -> None:
    assert hint(demand, worker(busy=busy)).need == need


def test_nobody_waits_for_workers_that_come_later_than_he_may_wait() -> None:
    # 60 tasks of 2 s are begun by one worker within 30 s; another one would be there after a minute.
    demand = Demand(waiting=60, means_ms=TWO_S)
    assert hint(demand, worker(), scale_wait_s=10.0).need == 1
    assert hint(demand, worker(), scale_wait_s=10.0, scale_start_s=5.0).need == 3


@pytest.mark.parametrize(
    ("demand", "settings", "expected"),
    [
        (Demand(batch=1), {}, 1),
        (Demand(batch=100_000), {}, 1),
        (Demand(batch=100_000), {"llm_batch_workers": 5}, 5),
        (Demand(batch=100_000), {"llm_batch_workers": 0, "llm_min_workers": 0}, 0),
        # 2,000 tasks of 10 s in an hour: 5.6 slots.
        (Demand(batch=2000), {"llm_batch_workers": 5}, 2),
        # Beside games the larger of both counts, not their sum: batches run in the gaps.
        (Demand(waiting=240, batch=2000), {"llm_batch_workers": 5}, 8),
    ],
)
def test_batch_work_has_a_rule_and_a_cap_of_its_own(demand: Demand, settings: dict[str, Any], expected: int) -> None:
    assert hint(demand, worker(), **settings).hint == expected


def test_batch_work_that_runs_keeps_its_workers_and_no_more() -> None:
    busy = [worker(f"llm@box{number}", busy=4, busy_batch=4) for number in range(6)]
    assert hint(Demand(batch=500), *busy).need == 1
    assert hint(Demand(), *busy).need == 1


def test_images_of_batches_count_before_they_are_queued_and_no_more_than_may_run_at_once() -> None:
    # Without a worker the batch runner has queued none of them.
    demand = Demand(items=5000, items_at_once=5000, means_ms={"sd.batch": 20_000})
    assert hint(demand, family=SD, sd_min_workers=0).hint == 1
    assert hint(demand, family=SD, sd_batch_workers=100, sd_max_workers=100).hint == 28
    assert hint(replace(demand, items_at_once=2), family=SD, sd_batch_workers=100).hint == 2


@pytest.mark.parametrize(("least", "most"), [(0, 1), (2, 5), (3, 3)])
def test_the_hint_has_the_bounds_of_the_settings(least: int, most: int) -> None:
    bounds = {"llm_min_workers": least, "llm_max_workers": most}
    assert hint(Demand(), **bounds).hint == least
    assert hint(Demand(waiting=10**9), **bounds).hint == most


def test_one_box_that_lies_does_not_decide_how_many_slots_a_worker_has() -> None:
    honest = [worker(f"llm@box{number}") for number in range(3)]
    liars = [worker(f"llm@evil-gpu{number}", **HOSTILE) for number in range(60)]
    assert hint(Demand(), *honest, *liars).slots == 4
    # Alone it may say what it wants, within bounds.
    assert hint(Demand(), *liars).slots == 64
    assert hint(Demand(waiting=10**9), *liars).hint == 8
    assert hint(Demand(), worker(slots=0)).slots == 1


def test_without_reports_the_settings_say_how_many_slots_a_worker_has() -> None:
    assert hint(Demand(), llm_slots=16).slots == 16
    # One that loads has not seen its engine yet.
    assert hint(Demand(), worker(slots=1, engine_state="loading"), llm_slots=16).slots == 16
    assert hint(Demand(), family=SD, llm_slots=16).slots == 1


@pytest.mark.parametrize(("mean_ms", "seconds"), [(0, 0.01), (10**12 - 1, 600.0), (1500, 1.5)])
def test_a_duration_has_bounds(mean_ms: int, seconds: float) -> None:
    assert hint(Demand(waiting=1, means_ms={"llm": mean_ms})).task_s == seconds


def test_a_report_of_an_older_release_runs_no_batch_work() -> None:
    report = b'{"queues": ["llm"], "engine": "x", "engine_state": "ready", "consuming": true, "slots": 4, "busy": 2}'
    found = parse_report("llm@old", report)
    assert found is not None
    assert (hint(Demand(), found).running, found.busy_batch) == (2, 0)


@pytest.fixture
def held(client: BrokerClient) -> Callable[..., int]:
    """Return how to hold a hint at a second, in one of two web processes."""
    webs = [NeedHistory(client, Settings()), NeedHistory(client, Settings())]

    def hold(need: int, now_s: int, present: int = 0, web: int = 0) -> int:
        found = hint(Demand(), llm_max_workers=8)
        return webs[web].hold(LLM, replace(found, hint=need, serving=present), now_s)

    return hold


def test_a_hint_grows_at_once(held: Callable[..., int]) -> None:
    assert [held(need, 1000 + need) for need in (1, 3, 6)] == [1, 3, 6]


def test_it_falls_when_less_was_needed_for_ten_minutes(held: Callable[..., int]) -> None:
    held(6, 1000, present=1)
    # In whichever process it is asked.
    seen = [held(1, now_s, present=6, web=now_s % 20 // 10) for now_s in range(1010, 2000, 10)]
    assert seen == [6] * 60 + [1] * 39


def test_workers_are_not_stopped_while_they_start_and_not_started_for_the_past(held: Callable[..., int]) -> None:
    held(6, 1000, present=1)
    assert held(1, 1060, present=1) == 6
    assert held(1, 1075, present=1) == 1
    # Those that came stay.
    assert held(1, 1080, present=4) == 4


def test_nothing_but_the_bounds_is_believed_of_who_is_there(held: Callable[..., int]) -> None:
    held(6, 1000)
    assert held(1, 1300, present=10**6) == 6


def test_what_is_kept_stays_small_and_ends(held: Callable[..., int], client: BrokerClient) -> None:
    # Two and a half times as long as anything is kept, a step at a time.
    for now_s in range(1000, 2500, 10):
        held(1, now_s)
    assert client.hlen(needs_key("llm")) <= 62
    assert 0 < client.ttl(needs_key("llm")) <= 1300
    # A clock that was set back, and what is no number.
    client.hset(needs_key("llm"), mapping={"99999": 8, "2490": "x", "y": 3})
    assert held(1, 2501, present=8) == 1


@pytest.fixture
def reader(settings: Settings, client: BrokerClient, monkeypatch: pytest.MonkeyPatch) -> SnapshotReader:
    monkeypatch.setattr(snapshot, "MAX_AGE_S", 0.0)
    return SnapshotReader(changed(settings, sd_min_workers=0))


def test_a_snapshot_has_a_hint_of_each_family(reader: SnapshotReader, client: BrokerClient, records) -> None:
    WorkerRegistry(client).report(worker(busy=2))
    client.hset(means_key("llm"), mapping={"llm": 60_000, "llm.batch": "10 million"})
    for _ in range(7):
        accepted(records)
    scale = reader.read().scale
    assert (scale["llm"].hint, scale["llm"].waiting, scale["llm"].running) == (3, 7, 2)
    assert (scale["llm"].task_s, scale["llm"].batch_task_s) == (60.0, 10.0)
    assert (scale["sd"].hint, scale["sd"].need) == (0, 0)


def test_what_waits_in_a_paused_queue_needs_no_worker(reader: SnapshotReader, client: BrokerClient, records) -> None:
    for _ in range(50):
        accepted(records)
    WorkerRegistry(client).pause_queue("llm")
    assert reader.read().scale["llm"].need == 0


def test_a_hint_that_cannot_be_read_is_missing_and_not_zero(reader: SnapshotReader, client: BrokerClient) -> None:
    client.set(needs_key("llm"), "written by another program")
    seen = reader.read()
    assert set(seen.scale) == {"sd"}
    assert needs_key("llm") in seen.unreadable


def test_durations_of_another_type_count_as_not_measured(reader: SnapshotReader, client: BrokerClient) -> None:
    client.set(means_key("llm"), "written by another program")
    assert reader.read().scale["llm"].task_s == 10.0
