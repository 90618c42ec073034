"""The model of a task's life: what graycat's records must say after each thing that may happen to a task."""

from __future__ import annotations

from dataclasses import dataclass, field

from graycat.queue.models import TERMINAL_STATES, ReleaseReason
from graycat.queue.records import MAX_DEATHS, MAX_DEATHS_ALONE

QUEUED, RUNNING = "queued", "running"
#: Every way from one state to another. A running task is queued again only if its attempt was released.
TRANSITIONS = {
    (QUEUED, RUNNING),
    (QUEUED, "cancelled"),
    (QUEUED, "expired"),
    (RUNNING, QUEUED),
    *((RUNNING, state) for state in TERMINAL_STATES if state != "expired"),
}


@dataclass
class ModelTask:
    """What must be true of one task."""

    id: str
    owner: str
    lane: str
    #: Identifies its request: a name that is used again with another request is refused.
    content: str
    name: str = ""
    state: str = QUEUED
    #: Attempts that were begun; the number of the last one is the fence.
    attempts: int = 0
    #: Of these, those that count towards the attempts that a task has.
    charged: int = 0
    #: Somebody asked it to stop while it ran.
    stopping: bool = False
    #: Its attempt's lease is over: its worker is gone, or was stopped for too long.
    lease_over: bool = False
    #: The time for which it may be queued is over.
    overdue: bool = False
    #: It ended while its message was in a queue or with a worker: the message counts as dead until it is claimed.
    left_message: bool = False
    #: No message of it needs to exist: the broker or a late worker has dropped it. The sweeper makes another.
    unheld: bool = False
    #: How many engines have died while it was there, and how many of these it had to itself.
    deaths: int = 0
    deaths_alone: int = 0
    chunks: int = 0
    #: Tokens that its attempts have made, by their own count, as they were written down.
    tokens: int = 0
    #: The record as it was when the task ended.
    final: dict[str, str] = field(default_factory=dict)

    @property
    def queue(self) -> str:
        """Return the queue that its message enters."""
        return "llm.batch" if self.lane == "batch" else "llm"

    @property
    def ended(self) -> bool:
        """Return whether it has a terminal state."""
        return self.state in TERMINAL_STATES

    def move(self, state: str) -> None:
        """Change the state, if there is such a way."""
        assert (self.state, state) in TRANSITIONS, f"{self.id}: no way from {self.state} to {state}"
        self.state = state

    def note_death(self, reason: ReleaseReason) -> bool:
        """Count a death of an engine, if the reason is one; return whether the task may not be tried again."""
        if reason not in (ReleaseReason.ENGINE_DIED, ReleaseReason.ENGINE_DIED_ALONE):
            return False
        self.deaths += 1
        self.deaths_alone += reason is ReleaseReason.ENGINE_DIED_ALONE
        return self.deaths_alone >= MAX_DEATHS_ALONE or self.deaths >= MAX_DEATHS

    def expect_claim(self, max_attempts: int, *, yields: bool) -> str:
        """Return the verdict of a claim, and change as it does. ``yields``: it is bulk work, and no gap is there."""
        if self.ended:
            self.left_message = False
            return "finished"
        if self.state == RUNNING and not self.lease_over:
            return "leased"
        charged = self.charged + (self.state == RUNNING)
        for verdict, state, is_so in (
            ("cancelled", "cancelled", self.stopping),
            ("expired", "expired", self.attempts == 0 and self.overdue),
            ("lost", "failed", charged >= max_attempts),
            ("yield", self.state, yields),
        ):
            if is_so:
                # A task that was released too often ends in the queue.
                self.state = state
                return verdict
        self.charged = charged
        if self.state == QUEUED:
            self.move(RUNNING)
        self.attempts += 1
        self.lease_over = False
        return "run"
