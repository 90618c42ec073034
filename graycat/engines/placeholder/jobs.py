"""One job at a time: the lock that generations queue at, and the state that ``/progress`` tells of.

Everything here runs in the greenlets of one thread: what does not wait is never interleaved.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import gevent
from gevent.event import Event
from gevent.util import wrap_errors

T = TypeVar("T")

#: Fields of the state that clients see, in their order.
SHOWN = (
    "skipped",
    "interrupted",
    "stopping_generation",
    "job",
    "job_count",
    "job_timestamp",
    "job_no",
    "sampling_step",
    "sampling_steps",
)


def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Run what keeps a core busy in a thread, so that other requests are answered meanwhile.

    Raises what it raises.
    """
    # Wrapped: gevent would print the traceback of an error that the caller is going to handle.
    result = gevent.get_hub().threadpool.apply(wrap_errors((Exception,), function), args)
    if isinstance(result, Exception):
        raise result
    return result


class FifoLock:
    """A lock that goes to who has waited longest."""

    def __init__(self) -> None:
        self._tickets: deque[Event] = deque()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for the turn, keep it, pass it on."""
        ticket = Event()
        self._tickets.append(ticket)
        try:
            if self._tickets[0] is not ticket:
                ticket.wait()
            yield
        finally:
            self._tickets.remove(ticket)
            if self._tickets:
                self._tickets[0].set()


@dataclass
class JobState:
    """What is known of the running job, or was of the last one: much of it stays when a job ends."""

    skipped: bool = False
    interrupted: bool = False
    stopping_generation: bool = False
    job: str = ""
    #: Batches, twice as many with a second pass; -1 while a job begins, 0 when there is none.
    job_count: int = 0
    job_timestamp: str = "0"
    #: Batches done.
    job_no: int = 0
    sampling_step: int = 0
    sampling_steps: int = 0
    #: The last preview as base64, and the step that it shows.
    current_image: str | None = None
    current_image_step: int = 0
    #: Draws the batch as it is now, encoded as base64; None while there is nothing to see.
    preview: Callable[[], str] | None = field(default=None, repr=False)
    started: float = 0.0

    def begin(self, job: str) -> None:
        """Start a job; flags that were set before it are wiped, even those meant for it."""
        self.skipped = self.interrupted = self.stopping_generation = False
        self.job, self.job_count, self.job_no = job, -1, 0
        # Local time without a zone is what the wire has.
        self.job_timestamp = datetime.now().strftime("%Y%m%d%H%M%S")  # noqa: DTZ005
        self.sampling_step = self.current_image_step = 0
        self.current_image = self.preview = None
        self.started = time.monotonic()

    def end(self) -> None:
        """End it; the rest keeps its last values."""
        self.job, self.job_count, self.preview = "", 0, None

    def next_batch(self) -> None:
        """Count a batch, or a pass over it, as done."""
        self.job_no += 1
        self.sampling_step = self.current_image_step = 0
        self.preview = None

    @property
    def stopped(self) -> bool:
        """Tell whether the running batch should end at its next step."""
        return self.interrupted or self.skipped

    def shown(self) -> dict[str, Any]:
        """Return what clients see of it."""
        return {name: getattr(self, name) for name in SHOWN}

    def progress(self) -> tuple[float, float]:
        """Return the share done, 0 to 1, and the seconds left; both 0 when idle.

        The seconds are as rough as upstream's: huge at the beginning, slightly negative at the end.
        """
        if self.job_count == 0:
            return 0.0, 0.0
        share = 0.01
        if self.job_count > 0:
            share += self.job_no / self.job_count
            if self.sampling_steps > 0:
                share += self.sampling_step / self.sampling_steps / self.job_count
        elapsed = time.monotonic() - self.started
        return min(share, 1.0), elapsed / share - elapsed


class Jobs:
    """The lock and the state it guards. ``step_s``: seconds that a sampling step takes."""

    def __init__(self, step_s: float) -> None:
        self.step_s = step_s
        self.state = JobState()
        self.lock = FifoLock()

    @contextmanager
    def running(self, job: str) -> Iterator[JobState]:
        """Run a job when its turn has come."""
        with self.lock.held():
            self.state.begin(job)
            try:
                yield self.state
            finally:
                self.state.end()

    def prepare(self) -> None:
        """Spend the time of one step before the first batch: with weights, prompts are encoded in it."""
        gevent.sleep(self.step_s)

    def sample(self, steps: int) -> int:
        """Go through the steps of one pass, one by one; return how many were done when it ended or was stopped."""
        self.state.sampling_steps = steps
        for step in range(steps):
            if self.state.stopped:
                return step
            self.state.sampling_step = step
            gevent.sleep(self.step_s)
        return steps

    def current_image(self, every_n_steps: int) -> str | None:
        """Return the preview as base64, drawn anew where the last one is that old; None where there is none yet.

        ``every_n_steps``: -1 for never.
        """
        state = self.state
        age = state.sampling_step - state.current_image_step
        if state.preview is not None and every_n_steps != -1 and age >= every_n_steps:
            started, step = state.started, state.sampling_step
            image = in_thread(state.preview)
            # Drawing took its time: the job that it shows may be over.
            if state.started == started:
                state.current_image, state.current_image_step = image, min(step, state.sampling_step)
        return state.current_image
