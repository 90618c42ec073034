"""What a worker process holds: its engine, its running tasks, its stores. Tasks ask here for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from graycat.broker.protocol import Broker
from graycat.engines.base import Engine, State
from graycat.engines.client import Call, StopReason
from graycat.engines.process.child import ChildProcess
from graycat.engines.process.supervisor import Supervisor
from graycat.fleet.workers import WorkerRegistry
from graycat.loops.threads import is_held_up, stuck_loops
from graycat.queue import ids, topology
from graycat.queue.models import Attempt
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from graycat.storage import open_artifacts
from graycat.storage.artifacts import ArtifactStore
from graycat.worker.engine_slots import EngineSlots
from graycat.worker.heartbeat import LoopHeartbeat
from graycat.worker.isolation import EngineAccess
from graycat.worker.publisher import Publisher
from graycat.worker.stream_relay import StreamRelay

if TYPE_CHECKING:
    # Only the control worker has these: a worker with an engine does not load what they need.
    from graycat.schedules.runner import ScheduleRunner
    from graycat.webhooks.sender import WebhookSender

Part = TypeVar("Part")

#: Seconds in which an engine that dies is seen to be gone after a call to it broke off, and between two looks.
ENGINE_DEATH_TIMEOUT_S, ENGINE_DEATH_CHECK_INTERVAL_S = 1.0, 0.02
#: Why a worker of a box takes nothing while home has not loaded the scripts of its version.
SCRIPTS_MISSING = "home does not have the scripts of this version of graycat: upgrade home first"
#: Seconds between two checks of the length of the engine's output.
ROTATE_INTERVAL_S = 10.0


@dataclass(frozen=True, slots=True)
class Running:
    """An attempt that runs, and its call to the engine. ``deadline`` is on the monotonic clock."""

    attempt: Attempt
    call: Call
    deadline: float


class RunningTasks:
    """The attempts that run in this worker. Any thread may list and stop them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_id: dict[str, Running] = {}

    @contextmanager
    def track(self, attempt: Attempt, call: Call | None = None) -> Iterator[Call]:
        """Yield the call of an attempt; other threads can stop it while the block runs."""
        if call is None:
            call = Call()
        running = Running(attempt, call, time.monotonic() + attempt.exec_timeout_s)
        with self._lock:
            self._by_id[attempt.task_id] = running
        try:
            yield call
        finally:
            with self._lock:
                # A newer attempt at the same task may have replaced it.
                if self._by_id.get(attempt.task_id) is running:
                    del self._by_id[attempt.task_id]

    def stop(self, task_id: str, reason: StopReason) -> bool:
        """Stop a task's call; return False if the task does not run here."""
        with self._lock:
            running = self._by_id.get(task_id)
        if running is None:
            return False
        running.call.stop(reason)
        return True

    def skip(self, task_id: str) -> bool:
        """Let a task's engine skip the rest of its batch; return False if it cannot."""
        with self._lock:
            running = self._by_id.get(task_id)
        return running is not None and running.call.skip()

    def __contains__(self, task_id: str) -> bool:
        """Return whether a task runs here."""
        with self._lock:
            return task_id in self._by_id

    def all(self) -> list[Running]:
        """Return the attempts that run."""
        with self._lock:
            return list(self._by_id.values())


def run_untraced(_: Attempt, run: Callable[[], str]) -> str:
    """Run an attempt and return its outcome."""
    return run()


@dataclass
class EngineRuntime:
    """The engine of a worker, and what goes with it; made by the EngineStep."""

    settings: Settings
    name: str
    queues: tuple[str, ...]
    engine: Engine
    supervisor: Supervisor
    client: Broker
    running: RunningTasks = field(default_factory=RunningTasks)
    #: Which tasks share the engine, and which have it to themselves.
    access: EngineAccess = field(default_factory=EngineAccess)
    #: The engine's process, if this worker owns it.
    child: ChildProcess | None = None
    #: The index of the GPU that the engine pins; None for the CPU.
    gpu: int | None = None
    #: The GPU's state when it was last read.
    gpu_state: dict[str, int] | None = None
    #: Whether an operator has paused this worker.
    paused: bool = False
    #: Queues that an operator has paused for all workers.
    paused_queues: frozenset[str] = frozenset()
    #: Queues that an operator has made this worker leave (Celery's ``cancel_consumer``).
    left_queues: set[str] = field(default_factory=set)
    #: Whether the broker has the scripts of this version. A box waits until home has loaded them.
    scripts_loaded: bool = True
    #: Whether the consumer takes tasks; the gate writes it.
    gate_open: bool = False
    #: The queues that the consumer takes tasks from; the gate writes it.
    consumed_queues: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        #: Reports to the fleet now; WorkerMaintenance sets it.
        self.report: Callable[[], None] = lambda: None
        #: Runs an attempt; ``graycat.worker.tracing`` replaces it.
        self.run_attempt: Callable[[Attempt, Callable[[], str]], str] = run_untraced
        self._rotate_at = 0.0
        self.supervisor.busy = lambda: bool(self.running.all())
        #: Seconds that running tasks may take to finish at the end.
        self.grace_s = self.settings.stop_grace_s
        self.records = TaskRecords(self.client, self.settings)
        self.fleet = WorkerRegistry(self.client)
        self.engine_slots = EngineSlots(self.engine.client)
        self.stream_relay = StreamRelay(Publisher(self.client, self.records))
        self.supervisor.heard_at = lambda: max(self.engine.client.heard_at, self.stream_relay.heard_at)
        self.artifacts: ArtifactStore = open_artifacts(self.settings, self.client)

    def rotate_output(self) -> None:
        """Rotate the engine's output if it has become long; checks only every few seconds."""
        now = time.monotonic()
        if self.child is not None and now >= self._rotate_at:
            self._rotate_at = now + ROTATE_INTERVAL_S
            self.child.rotate()

    def engine_died_since(self, starts: int) -> bool:
        """Return whether the engine's process has ended since it had been started ``starts`` times.

        A connection may break a moment before the process is gone, so this waits up to ENGINE_DEATH_TIMEOUT_S. False if
        the engine is not this worker's.
        """
        if self.child is None:
            return False
        deadline = time.monotonic() + ENGINE_DEATH_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.supervisor.starts != starts or not self.child.alive():
                return True
            time.sleep(ENGINE_DEATH_CHECK_INTERVAL_S)
        return False

    @property
    def idle_reason(self) -> str:
        """Return why this worker takes no tasks; '' while it takes some."""
        if self.gate_open:
            return ""
        if self.supervisor.state is not State.READY:
            reason = f"its engine is {self.supervisor.state.value}"
            if self.supervisor.trouble:
                reason += f" ({self.supervisor.trouble})"
            return reason
        if not self.scripts_loaded:
            return SCRIPTS_MISSING
        if self.paused:
            return "it is paused"
        if is_held_up():
            return f"stuck or gone: {', '.join(stuck_loops())}"
        return "its queues are paused or left" if self.excluded_queues else "it is about to take tasks"

    @property
    def excluded_queues(self) -> frozenset[str]:
        """Return the queues from which this worker takes nothing now, though it could: paused, or left."""
        # A copy in one step: the consumer's thread changes the set while tasks ask.
        return self.paused_queues.union(self.left_queues.copy())

    @property
    def ready(self) -> bool:
        """Return whether the engine accepts work."""
        return self.supervisor.state is State.READY

    @property
    def slots(self) -> int:
        """Return how many tasks the engine works on at once; 1 while it has not described itself."""
        info = self.supervisor.info
        return 1 if info is None else info.slots


@dataclass
class WorkerProcess:
    """The parts of this worker process. A bootstep sets each part before the worker consumes.

    A part is None if none of the worker's queues needs it.
    """

    engine: EngineRuntime | None = None
    records: TaskRecords | None = None
    webhook_sender: WebhookSender | None = None
    schedule_runner: ScheduleRunner | None = None
    #: The heartbeat of the consumer's main loop.
    heartbeat: LoopHeartbeat = field(default_factory=LoopHeartbeat)

    @property
    def serves(self) -> bool:
        """Return whether the loops run that tasks depend on: the main loop, and the vital ones of ``graycat.loops``."""
        return self.heartbeat.alive and not is_held_up()

    def trouble(self) -> str:
        """Return why this worker takes no tasks; '' while it does, and while an operator has paused it."""
        if is_held_up():
            return f"stuck or gone: {', '.join(stuck_loops())}"
        if not self.heartbeat.alive:
            return "its main loop takes no tasks: it starts or stops, or the broker does not answer"
        if self.engine is None or (self.engine.ready and self.engine.scripts_loaded):
            return ""
        return self.engine.idle_reason

    def served_queues(self) -> list[str]:
        """Return all queues that this worker may take from: a task of another queue would fail here."""
        queues: list[str] = []
        if self.engine is not None:
            info = self.engine.supervisor.info
            models = () if info is None else info.models
            for queue in self.engine.queues:
                queues += [queue, *topology.engine_queues(queue, models, self.engine.name)]
        if self.webhook_sender is not None and topology.CONTROL not in queues:
            queues.append(topology.CONTROL)
        return queues

    def may_access(self, task_id: str) -> bool:
        """Return whether this worker may read and change a task's record: one with an engine only of its family's."""
        if self.webhook_sender is not None:
            return True
        return self.engine is not None and ids.is_id_for(task_id, self.engine.queues[0])


process = WorkerProcess()


def engine_runtime() -> EngineRuntime:
    """Return the engine of this worker and what goes with it. Raises RuntimeError if the worker has none."""
    return _require(process.engine, "engine")


def webhook_sender() -> WebhookSender:
    """Return the sender of this control worker. Raises RuntimeError in a worker of another kind."""
    return _require(process.webhook_sender, "webhook sender")


def schedule_runner() -> ScheduleRunner:
    """Return the schedule runner of this control worker. Raises RuntimeError in a worker of another kind."""
    return _require(process.schedule_runner, "schedule runner")


def _require(part: Part | None, name: str) -> Part:
    if part is None:
        raise RuntimeError(f"this worker has no {name}: none of its queues needs one")
    return part
