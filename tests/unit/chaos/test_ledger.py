"""The ledger: names are nobody else's, ids stay, gaps are measured."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from chaos.ledger import Accepted, Call, Caller, Ledger, Outcome

pytestmark = pytest.mark.not_covered


def test_names_are_different_for_many_threads() -> None:
    ledger = Ledger("x")
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: ledger.new_name("task"), range(400)))
    assert len(set(names)) == 400
    assert all(name.startswith("x-task-") for name in names)


def test_a_name_that_gets_another_id_is_told() -> None:
    ledger = Ledger("x")
    assert ledger.accept(Accepted("a", Caller.REST, "1")) == ""
    assert ledger.accept(Accepted("a", Caller.REST, "1")) == ""
    assert ledger.accept(Accepted("a", Caller.REST, "2")) == "a was 1 and is 2"
    assert [accepted.task_id for accepted in ledger.accepted()] == ["1"]


def test_a_cancelled_task_may_end_so() -> None:
    ledger = Ledger("x")
    ledger.accept(Accepted("a", Caller.REST, "1"))
    ledger.permit("a", "cancelled")
    ledger.permit("of nobody", "cancelled")
    assert ledger.accepted()[0].may_end == ("succeeded", "cancelled")


def test_calls_are_open_until_they_have_ended() -> None:
    ledger = Ledger("x")
    first, _ = ledger.begin("a", Caller.GAME), ledger.begin("b", Caller.GAME)
    ledger.end(first, Outcome.WHOLE)
    assert ledger.outcomes() == {(Caller.GAME, Outcome.WHOLE): 1, (Caller.GAME, Outcome.OPEN): 1}


@pytest.mark.parametrize(("arrivals", "gap_s"), [([], 0.0), ([5.0], 0.0), ([1.0, 2.0, 5.0, 5.5], 3.0)])
def test_the_gap_of_a_stream_is_its_longest(arrivals: list[float], gap_s: float) -> None:
    assert Call("a", Caller.GAME, arrivals=arrivals).gap_s == gap_s
