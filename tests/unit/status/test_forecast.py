from __future__ import annotations

from typing import Any

import pytest

from graycat.fleet.reports import WorkerStatus
from graycat.status.forecast import (
    MAX_STARTS,
    Line,
    Taker,
    find_start,
    queues_before,
    queues_of,
    why_unknown,
)

NONE: frozenset[str] = frozenset()


def worker(name: str = "llm@box", queues: tuple[str, ...] = ("llm", "llm.batch"), **changes: Any) -> WorkerStatus:
    fields: dict[str, Any] = {"engine": "e", "engine_state": "ready", "consuming": True, "slots": 1, "busy": 0}
    return WorkerStatus(name=name, queues=queues, **({**fields, "props": "{}"} | changes))


def test_a_worker_s_queues_are_in_the_order_in_which_its_gate_joins_them() -> None:
    images = worker("sd@a", ("sd", "sd.batch"), models=("m",))
    assert queues_of(images) == ["sd", "sd:m", "sd:@sd@a", "sd.batch", "sd.batch:m", "sd.batch:@sd@a"]
    assert queues_of(images, frozenset({"sd"})) == ["sd.batch", "sd.batch:m", "sd.batch:@sd@a"]
    assert queues_of(worker(left=("llm",))) == ["llm.batch"]


def test_before_a_batch_task_is_all_that_its_workers_take_sooner() -> None:
    fleet = [worker("sd@a", ("sd", "sd.batch"), models=("m",)), worker("sd@b", ("sd", "sd.batch"), models=("n",))]
    assert queues_before("sd.batch", fleet, NONE) == ["sd", "sd:m", "sd:@sd@a", "sd:n", "sd:@sd@b"]
    assert queues_before("sd.batch:m", fleet, NONE) == ["sd", "sd:m", "sd:@sd@a", "sd.batch"]
    assert queues_before("sd", fleet, NONE) == []


def test_without_a_worker_the_rule_alone_tells_what_is_before() -> None:
    assert queues_before("llm.batch:m", [], NONE) == ["llm", "llm:m", "llm.batch"]
    assert queues_before("llm:m", [], NONE) == ["llm"]
    assert queues_before("llm.quick", [], NONE) == []


@pytest.mark.parametrize(
    ("fleet", "paused", "reason"),
    [
        ([worker()], NONE, ""),
        ([], NONE, "no worker that takes from the queue llm is alive"),
        ([worker("sd@a", ("sd",))], NONE, "no worker that takes from the queue llm is alive"),
        ([worker(paused=True, consuming=False)], NONE, "all workers of the queue llm are paused or drained"),
        ([worker(engine_state="loading", consuming=False)], NONE, "no engine for the queue llm is ready"),
        ([worker(consuming=False)], NONE, "no worker takes from the queue llm now"),
        ([worker(left=("llm",))], frozenset({"llm"}), "the queue llm is paused"),
        ([worker(left=("llm",))], NONE, "no worker takes from the queue llm now"),
        ([worker(paused=True), worker("llm@two")], NONE, ""),
    ],
)
def test_why_nothing_is_started_is_said(fleet: list[WorkerStatus], paused: frozenset[str], reason: str) -> None:
    assert why_unknown("llm", fleet, paused) == reason


def test_a_batch_task_is_started_after_all_that_is_interactive() -> None:
    takers = [Taker(("llm", "llm.batch"), (1.0, 3.0))]
    line = Line("llm.batch", {"llm": 3, "llm.batch": 1}, {"llm": 4.0, "llm.batch": 10.0})
    # The slots are free at 1 and 3, take three interactive tasks at 1, 3 and 5, then the batch task at 7, then this.
    assert find_start(takers, line) == (5, 9.0)


def test_work_for_one_engine_alone_does_not_hold_up_another() -> None:
    takers = [Taker(("sd", "sd:@a", "sd.batch"), (2.0,)), Taker(("sd", "sd:@b", "sd.batch"), (5.0,))]
    line = Line("sd.batch", {"sd": 0, "sd:@a": 9, "sd:@b": 0, "sd.batch": 0}, {"sd:@a": 2.0, "sd.batch": 1.0})
    assert find_start(takers, line) == (3, 5.0)


def test_a_worker_that_does_not_take_the_task_helps_with_what_is_before_it() -> None:
    takers = [Taker(("llm", "llm:a"), (0.0,)), Taker(("llm",), (0.0,))]
    line = Line("llm:a", {"llm": 4, "llm:a": 0}, {"llm": 2.0, "llm:a": 1.0})
    assert find_start(takers, line) == (5, 4.0)


def test_a_very_long_line_is_not_played_to_its_end() -> None:
    line = Line("llm", {"llm": 100_000}, {"llm": 1.0})
    position, eta_s = find_start([Taker(("llm",), (1.0,) * 4)], line)
    assert position == 100_001
    assert eta_s == pytest.approx(25_000, rel=0.01)
    assert position > MAX_STARTS
