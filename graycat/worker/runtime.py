"""What a worker process has while it lives; here its tasks ask for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from graycat.broker.protocol import Broker
from graycat.engines.base import Engine, State
from graycat.engines.client import Call, StopReason
from graycat.engines.process.child import ChildProcess
from graycat.engines.process.supervisor import Supervisor
from graycat.fleet.workers import WorkerRegistry
from graycat.queue.models import Attempt
from graycat.queue.records import TaskRecords
from graycat.schedules.runner import ScheduleRunner
from graycat.settings import Settings
from graycat.storage import open_artifacts
from graycat.storage.artifacts import ArtifactStore
from graycat.webhooks.sender import WebhookSender
from graycat.worker.heartbeat import LoopHeartbeat
from graycat.worker.publisher import Publisher
from graycat.worker.stream_relay import StreamRelay

Part = TypeVar("Part")

#: Seconds between two looks at the length of the engine's output.
ROTATE_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Running:
    """An attempt under way, and the call that it waits for. ``deadline`` is on the monotonic clock."""

    attempt: Attempt
    call: Call
    deadline: float


class RunningTasks:
    """The attempts under way in this worker; every thread may look and stop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_id: dict[str, Running] = {}

    @contextmanager
    def track(self, attempt: Attempt, call: Call | None = None) -> Iterator[Call]:
        """Yield the call of an attempt, which others can stop while the block runs."""
        running = Running(attempt, call or Call(), time.monotonic() + attempt.exec_timeout_s)
        with self._lock:
            self._by_id[attempt.task_id] = running
        try:
            yield running.call
        finally:
            with self._lock:
                # A newer attempt of the same task may have taken the place.
                if self._by_id.get(attempt.task_id) is running:
                    del self._by_id[attempt.task_id]

    def stop(self, task_id: str, reason: StopReason) -> bool:
        """Stop a task's call; False where it does not run here."""
        with self._lock:
            running = self._by_id.get(task_id)
        if running is None:
            return False
        running.call.stop(reason)
        return True

    def skip(self, task_id: str) -> bool:
        """Have a task's engine leave out the rest of its batch; False where that cannot be."""
        with self._lock:
            running = self._by_id.get(task_id)
        return running is not None and running.call.skip()

    def has(self, task_id: str) -> bool:
        """Tell whether a task runs here."""
        with self._lock:
            return task_id in self._by_id

    def all(self) -> list[Running]:
        """Return the attempts under way."""
        with self._lock:
            return list(self._by_id.values())


def untraced(_: Attempt, run: Callable[[], str]) -> str:
    """Run an attempt, and nothing else."""
    return run()


@dataclass
class Runtime:
    """One worker process, put together by its EngineStep."""

    settings: Settings
    name: str
    queues: tuple[str, ...]
    engine: Engine
    supervisor: Supervisor
    client: Broker
    running: RunningTasks = field(default_factory=RunningTasks)
    #: The engine's process, where it is ours.
    child: ChildProcess | None = None
    #: The index of the GPU that the engine pins; None for the CPU.
    gpu: int | None = None
    #: How that was doing when it was last asked.
    gpu_state: dict[str, int] | None = None
    #: Whether somebody has asked this worker to take nothing for now.
    paused: bool = False
    #: Queues from which nobody is to take anything for now.
    paused_queues: frozenset[str] = frozenset()
    #: Queues that somebody has told this worker to leave (Celery's ``cancel_consumer``).
    left_queues: set[str] = field(default_factory=set)
    #: Whether the consumer takes tasks; the gate writes it.
    gate_open: bool = False

    def __post_init__(self) -> None:
        #: Tells the fleet of this worker now; the housekeeper sets it.
        self.report: Callable[[], None] = lambda: None
        #: Runs an attempt; ``graycat.worker.tracing`` puts one in its place that traces it.
        self.traced: Callable[[Attempt, Callable[[], str]], str] = untraced
        self._rotate_at = 0.0
        self.supervisor.busy = lambda: bool(self.running.all())
        #: Seconds that running work gets to finish at the end.
        self.grace_s = self.settings.stop_grace_s
        self.records = TaskRecords(self.client, self.settings)
        self.fleet = WorkerRegistry(self.client)
        self.stream_relay = StreamRelay(Publisher(self.client, self.records))
        self.artifacts: ArtifactStore = open_artifacts(self.settings, self.client)

    def keep_output_short(self) -> None:
        """Have the engine's output put aside where it has become long; looks every few seconds."""
        now = time.monotonic()
        if self.child is not None and now >= self._rotate_at:
            self._rotate_at = now + ROTATE_EVERY_S
            self.child.rotate()

    @property
    def idle_reason(self) -> str:
        """Return why this worker takes nothing just now; '' while it takes tasks."""
        if self.gate_open:
            return ""
        state, trouble = self.supervisor.state, self.supervisor.trouble
        if state is not State.READY:
            return f"its engine is {state.value}" + (f" ({trouble})" if trouble else "")
        return "it is paused" if self.paused else "its queues are paused or left"

    @property
    def ready(self) -> bool:
        """Tell whether the engine takes work."""
        return self.supervisor.state is State.READY

    @property
    def slots(self) -> int:
        """Return how many tasks the engine works on at once."""
        return self.supervisor.info.slots if self.supervisor.info is not None else 1


@dataclass
class WorkerProcess:
    """What this worker process has. A bootstep sets each part before the worker consumes.

    A part is None if no queue of this worker needs it.
    """

    engine: Runtime | None = None
    webhook_sender: WebhookSender | None = None
    schedule_runner: ScheduleRunner | None = None
    #: Of the consumer's main loop.
    heartbeat: LoopHeartbeat = field(default_factory=LoopHeartbeat)


process = WorkerProcess()


def engine_runtime() -> Runtime:
    """Return the engine of this worker and what goes with it. Raises RuntimeError if the worker has none."""
    return _require(process.engine, "engine")


def webhook_sender() -> WebhookSender:
    """Return the sender of this control worker. Raises RuntimeError in a worker of another kind."""
    return _require(process.webhook_sender, "webhook sender")


def schedule_runner() -> ScheduleRunner:
    """Return what fires the schedules in this control worker. Raises RuntimeError in a worker of another kind."""
    return _require(process.schedule_runner, "schedule runner")


def _require(part: Part | None, name: str) -> Part:
    if part is None:
        raise RuntimeError(f"this worker has no {name}: none of its queues needs one")
    return part
