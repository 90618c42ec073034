"""What the callers have submitted, and what came back. The audit compares it with what graycat has on record."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """What a caller got."""

    #: Nothing yet. At the end of a load: the caller hangs.
    OPEN = "open"
    #: All that it asked for.
    WHOLE = "whole"
    #: No connection, 503, or 429: nothing was accepted, and the caller may try again.
    REFUSED = "refused"
    #: An error in the form that the API promises, behind the first byte of an answer or as a status.
    ERROR = "error"
    #: The connection ended in the middle of the answer.
    BROKEN = "broken"
    #: An answer that is not the right one: tokens that are missing, twice or in another order, a status with no code.
    WRONG = "wrong"


class Caller(StrEnum):
    """Who calls."""

    GAME = "game"
    REST = "rest"
    WEBUI = "webui"
    BATCH = "batch"
    OPERATOR = "operator"
    PROBE = "probe"


@dataclass(slots=True)
class Call:
    """One request of a caller. Times are those of the monotonic clock (seconds)."""

    name: str
    caller: Caller
    sent_at: float = field(default_factory=time.monotonic)
    outcome: Outcome = Outcome.OPEN
    detail: str = ""
    ended_at: float = 0.0
    #: When each piece of a stream arrived.
    arrivals: list[float] = field(default_factory=list)

    @property
    def gap_s(self) -> float:
        """Return the longest time between two pieces of a stream; 0 if it has less than two."""
        longest = 0.0
        for before, after in zip(self.arrivals, self.arrivals[1:], strict=False):
            longest = max(longest, after - before)
        return longest


@dataclass(slots=True)
class Accepted:
    """A task that graycat has accepted under an id that its caller knows."""

    name: str
    caller: Caller
    task_id: str
    #: How it may end.
    may_end: tuple[str, ...] = ("succeeded",)
    #: Images that it makes.
    images: int = 0


@dataclass(slots=True)
class AcceptedBatch:
    """A batch that graycat has accepted, and the prompts of its images."""

    batch_id: str
    prompts: list[str]
    may_end: tuple[str, ...] = ("succeeded",)


class Ledger:
    """What the callers of one load have done. All methods may be called by any thread."""

    def __init__(self, prefix: str) -> None:
        #: What the names of everything in it begin with.
        self.prefix = prefix
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._accepted: dict[str, Accepted] = {}
        self._batches: dict[str, AcceptedBatch] = {}
        self._numbers: Counter[str] = Counter()

    def new_name(self, what: str) -> str:
        """Return a name that nothing else has."""
        with self._lock:
            self._numbers[what] += 1
            return f"{self.prefix}-{what}-{self._numbers[what]}"

    def begin(self, name: str, caller: Caller) -> Call:
        """Note that a request is sent; its caller ends it with ``end``."""
        call = Call(name, caller)
        with self._lock:
            self._calls.append(call)
        return call

    def end(self, call: Call, outcome: Outcome, detail: str = "") -> None:
        """Note how a request has ended."""
        with self._lock:
            call.outcome, call.detail, call.ended_at = outcome, detail, time.monotonic()

    def accept(self, accepted: Accepted) -> str:
        """Note an accepted task. Returns '' or, if its name had another id before, what is wrong with that."""
        with self._lock:
            before = self._accepted.setdefault(accepted.name, accepted)
        if before.task_id != accepted.task_id:
            return f"{accepted.name} was {before.task_id} and is {accepted.task_id}"
        return ""

    def permit(self, name: str, *states: str) -> None:
        """Note that an accepted task may end in more states: its caller has cancelled it."""
        with self._lock:
            task = self._accepted.get(name)
            if task is not None:
                task.may_end = (*task.may_end, *states)

    def accept_batch(self, batch: AcceptedBatch) -> None:
        """Note an accepted batch."""
        with self._lock:
            self._batches[batch.batch_id] = batch

    def calls(self, keep: Callable[[Call], bool] = lambda _: True) -> list[Call]:
        """Return the requests so far, in the order in which they were sent."""
        with self._lock:
            return [call for call in self._calls if keep(call)]

    def accepted(self) -> list[Accepted]:
        """Return the accepted tasks."""
        with self._lock:
            return list(self._accepted.values())

    def batches(self) -> list[AcceptedBatch]:
        """Return the accepted batches."""
        with self._lock:
            return list(self._batches.values())

    def outcomes(self) -> Counter[tuple[Caller, Outcome]]:
        """Return how many requests of each caller ended how."""
        counts: Counter[tuple[Caller, Outcome]] = Counter()
        for call in self.calls():
            counts[call.caller, call.outcome] += 1
        return counts
