"""How long recovery took, from the ledger: a stream's longest gap, the first good request, the first queued work."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from chaos.audit import Violation
from chaos.ledger import Call, Caller, Ledger, Outcome
from chaos.system import System
from tests.support.processes import eventually

#: What is promised (seconds): the gap in a stream whose worker was killed, queued work, a supervised restart.
MAX_GAP_S, MAX_QUEUED_S, MAX_RESTART_S = 10.0, 15.0, 10.0
#: A single fault that takes so many times as long is a failure by itself; the promises are about the p95 of all.
FAR_TOO_LONG = 3
#: Seconds after which a part that is not back counts as lost.
BACK_S = 60.0


@dataclass(slots=True)
class Recovery:
    """Times in seconds; None if there was nothing to measure."""

    #: Until every part ran again and would answer.
    restart_s: float | None = None
    #: Until a request that was sent after the harm was answered.
    request_s: float | None = None
    #: Until queued work that was sent after the harm had been done: text and images. None: it never was.
    work_s: float | None = None
    #: The longest time without a token in a stream that was open at the fault and has its whole answer.
    gap_s: float | None = None


def wait_until_back(system: System) -> float | None:
    """Return the seconds from the harm until every part is back; None if one is not."""
    try:
        eventually(system.is_whole, BACK_S, 0.1)
    except AssertionError:
        return None
    return time.monotonic() - system.harmed_at


def measure(ledger: Ledger, began_at: float, harmed_at: float, restart_s: float | None) -> Recovery:
    """Return the times of a fault that began and did its harm at these moments (monotonic)."""
    calls = ledger.calls()
    whole = [call for call in calls if call.outcome is Outcome.WHOLE]
    return Recovery(
        restart_s,
        _first(whole, harmed_at, {Caller.PROBE}),
        _last_first(whole, harmed_at),
        _longest_gap(whole, began_at),
    )


def _first(whole: Iterable[Call], since: float, callers: set[Caller]) -> float | None:
    """Return the seconds until the first good answer to a request that was sent after a moment."""
    ended = [call.ended_at for call in whole if call.caller in callers and call.sent_at >= since]
    return min(ended) - since if ended else None


def _last_first(whole: list[Call], since: float) -> float | None:
    """Return the seconds until both text and images have been made again."""
    text = _first(whole, since, {Caller.GAME})
    images = _first(whole, since, {Caller.WEBUI})
    if text is None or images is None:
        return None
    return max(text, images)


def _longest_gap(whole: Iterable[Call], began_at: float) -> float | None:
    """Return the longest gap in the streams that were open at a moment."""
    gaps = [call.gap_s for call in whole if call.arrivals and call.sent_at <= began_at <= call.ended_at]
    return max(gaps, default=None)


def check(recovery: Recovery) -> list[Violation]:
    """Return which promises about times were not kept."""
    found = []
    if recovery.restart_s is None:
        found.append(Violation("down", "not all parts were back", f"within {BACK_S:g} s"))
    if recovery.work_s is None:
        found.append(Violation("down", "queued work", "text and images were not both made again"))
    limits = (
        ("restart", recovery.restart_s, MAX_RESTART_S),
        ("queued work", recovery.work_s, MAX_QUEUED_S),
        ("gap in a stream", recovery.gap_s, MAX_GAP_S),
    )
    for name, seconds, most in limits:
        if seconds is not None and seconds > FAR_TOO_LONG * most:
            found.append(Violation("slow", name, f"{seconds:.1f} s, and {most:g} s are promised"))
    return found
