"""Times of recovery, read from a ledger."""

from __future__ import annotations

import pytest

from chaos.ledger import Call, Caller, Ledger, Outcome
from chaos.recovery import FAR_TOO_LONG, MAX_GAP_S, MAX_QUEUED_S, MAX_RESTART_S, Recovery, check, measure

pytestmark = pytest.mark.not_covered


def ledger(*calls: Call) -> Ledger:
    """Return a ledger of these calls."""
    made = Ledger("x")
    for call in calls:
        noted = made.begin(call.name, call.caller)
        noted.sent_at, noted.arrivals = call.sent_at, call.arrivals
        made.end(noted, call.outcome)
        noted.ended_at = call.ended_at
    return made


def call(caller: Caller, sent_at: float, ended_at: float, outcome: Outcome = Outcome.WHOLE) -> Call:
    return Call("a", caller, sent_at, outcome, ended_at=ended_at)


def test_only_what_was_sent_after_the_harm_counts() -> None:
    made = ledger(
        call(Caller.PROBE, 9, 9.5),
        call(Caller.PROBE, 10.5, 11, Outcome.REFUSED),
        call(Caller.PROBE, 12, 12.5),
        call(Caller.GAME, 9, 14),
        call(Caller.GAME, 11, 15),
        call(Caller.WEBUI, 11, 13),
    )
    recovery = measure(made, began_at=10, harmed_at=10, restart_s=2.0)
    assert (recovery.request_s, recovery.work_s, recovery.restart_s) == (2.5, 5, 2.0)


def test_work_that_has_not_come_back_has_no_time() -> None:
    assert measure(ledger(call(Caller.GAME, 11, 15)), 10, 10, None).work_s is None


def test_the_gap_is_that_of_streams_that_were_open() -> None:
    during, before = call(Caller.GAME, 8, 20), call(Caller.GAME, 1, 9)
    during.arrivals, before.arrivals = [9.0, 12.0, 20.0], [1.0, 9.0]
    assert measure(ledger(during, before), 10, 10, None).gap_s == 8
    broken = call(Caller.GAME, 8, 20, Outcome.BROKEN)
    broken.arrivals = [9.0, 20.0]
    assert measure(ledger(broken), 10, 10, None).gap_s is None


@pytest.mark.parametrize(
    ("recovery", "kinds"),
    [
        (Recovery(1, 1, 1, 1), []),
        (Recovery(1, 1, 1, None), []),
        (Recovery(1, 1, None, 1), ["down"]),
        (Recovery(MAX_RESTART_S + 1, 1, MAX_QUEUED_S + 1, MAX_GAP_S + 1), []),
        (Recovery(None, 1, 1, 1), ["down"]),
        (Recovery(FAR_TOO_LONG * MAX_RESTART_S + 1, 1, 1, 1), ["slow"]),
        (Recovery(1, 1, FAR_TOO_LONG * MAX_QUEUED_S + 1, 1), ["slow"]),
        (Recovery(1, 1, 1, FAR_TOO_LONG * MAX_GAP_S + 1), ["slow"]),
    ],
)
def test_what_takes_too_long_is_a_violation(recovery: Recovery, kinds: list[str]) -> None:
    assert [violation.kind for violation in check(recovery)] == kinds
