"""One job at a time: the lock that generations wait for, and the state that ``/progress`` reports.

Everything here runs in greenlets of one thread: code that does not wait is never interrupted by another greenlet.
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
PUBLIC_FIELDS = (
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


def run_in_thread(function: Callable[..., T], *args: Any) -> T:
    """Run a function that needs much CPU time in a thread, so that other requests are answered meanwhile.

    Raises the function's exceptions.
    """
    # Without wrap_errors, gevent would print the traceback of an error that the caller is going to handle.
    result = gevent.get_hub().threadpool.apply(wrap_errors((Exception,), function), args)
    if isinstance(result, Exception):
        raise result
    return result


class FifoLock:
    """A lock that its waiters get in the order in which they came."""

    def __init__(self) -> None:
        #: The holder's event, then those of the waiters.
        self._queue: deque[Event] = deque()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Wait for the lock and hold it."""
        turn = Event()
        self._queue.append(turn)
        try:
            if self._queue[0] is not turn:
                turn.wait()
            yield
        finally:
            self._queue.remove(turn)
            if self._queue:
                self._queue[0].set()


@dataclass
class JobState:
    """The state of the running job, or of the last one: many values stay when a job ends."""

    skipped: bool = False
    interrupted: bool = False
    stopping_generation: bool = False
    job: str = ""
    #: Number of batches, doubled with a second pass; -1 while a job begins, 0 if no job runs.
    job_count: int = 0
    job_timestamp: str = "0"
    #: Number of finished batches.
    job_no: int = 0
    sampling_step: int = 0
    sampling_steps: int = 0
    #: The last preview as base64, and the step that it shows.
    current_image: str | None = None
    current_image_step: int = 0
    #: Draws a preview of the running batch and returns it as base64; None while there is nothing to see.
    preview: Callable[[], str] | None = field(default=None, repr=False)
    started: float = 0.0

    def begin(self, job: str) -> None:
        """Start a job. Earlier flags are cleared, even those that were meant for this job."""
        self.skipped = False
        self.interrupted = False
        self.stopping_generation = False
        self.job = job
        self.job_count = -1
        self.job_no = 0
        # The API has local time without a zone.
        self.job_timestamp = datetime.now().strftime("%Y%m%d%H%M%S")  # noqa: DTZ005
        self.sampling_step = 0
        self.current_image_step = 0
        self.current_image = None
        self.preview = None
        self.started = time.monotonic()

    def end(self) -> None:
        """End the job; the other fields keep their last values."""
        self.job = ""
        self.job_count = 0
        self.preview = None

    def next_batch(self) -> None:
        """Count a batch, or one pass over it, as finished."""
        self.job_no += 1
        self.sampling_step = 0
        self.current_image_step = 0
        self.preview = None

    @property
    def stopped(self) -> bool:
        """Return whether the running batch must end at its next step."""
        return self.interrupted or self.skipped

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that clients see."""
        return {name: getattr(self, name) for name in PUBLIC_FIELDS}

    def progress(self) -> tuple[float, float]:
        """Return the progress from 0 to 1 and the estimated seconds left; both are 0 if no job runs.

        The estimate is as rough as upstream's: huge at the beginning, slightly negative at the end.
        """
        if self.job_count == 0:
            return 0.0, 0.0
        progress = 0.01
        if self.job_count > 0:
            progress += self.job_no / self.job_count
            if self.sampling_steps > 0:
                progress += self.sampling_step / self.sampling_steps / self.job_count
        elapsed = time.monotonic() - self.started
        return min(progress, 1.0), elapsed / progress - elapsed


class Jobs:
    """The lock and the state that it protects. ``step_s``: seconds that a sampling step takes."""

    def __init__(self, step_s: float) -> None:
        self.step_s = step_s
        self.state = JobState()
        self.lock = FifoLock()

    @contextmanager
    def run(self, job: str) -> Iterator[JobState]:
        """Run a job when the lock is free."""
        with self.lock.hold():
            self.state.begin(job)
            try:
                yield self.state
            finally:
                self.state.end()

    def prepare(self) -> None:
        """Wait for the time of one step before the first batch: real engines encode the prompts in it."""
        gevent.sleep(self.step_s)

    def sample(self, steps: int) -> int:
        """Go through the steps of one pass; return how many were done before it ended or was stopped."""
        self.state.sampling_steps = steps
        for step in range(steps):
            if self.state.stopped:
                return step
            self.state.sampling_step = step
            gevent.sleep(self.step_s)
        return steps

    def current_image(self, every_n_steps: int) -> str | None:
        """Return the preview as base64, drawn again if it is so many steps old; None if there is none yet.

        ``every_n_steps``: -1 to never draw one.
        """
        state = self.state
        age = state.sampling_step - state.current_image_step
        if state.preview is not None and every_n_steps != -1 and age >= every_n_steps:
            started = state.started
            step = state.sampling_step
            image = run_in_thread(state.preview)
            # The job may have ended while its preview was drawn.
            if state.started == started:
                state.current_image = image
                state.current_image_step = min(step, state.sampling_step)
        return state.current_image
