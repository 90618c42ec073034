"""EngineTask: the way of one delivered task, from claim to terminal state."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial

from celery import Task
from celery.exceptions import Reject

from graycat.engines.client import Call, StopReason
from graycat.errors import EngineError, EngineLost, EngineProtocolError, GraycatError, StaleAttempt, TaskTimeout
from graycat.metrics import worker
from graycat.queue import events
from graycat.queue.models import Attempt
from graycat.queue.topology import QUICK_QUEUES
from graycat.storage.errors import ArtifactsUnavailable
from graycat.worker.runtime import EngineRuntime, engine_runtime

logger = logging.getLogger(__name__)

#: A message taken while the engine is away goes back after this many seconds, unless the engine comes back first.
ENGINE_WAIT_S = 1.0
#: Bulk work that was taken too early goes back after this many seconds.
YIELD_S = 0.05


class Interrupted(Exception):
    """Raised where a task was asked to end with what it has; ``answer`` is that, and no finished result."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("interrupted")
        self.answer = answer


class EngineTask(Task[..., None]):
    """A Celery task that runs on the worker's engine. Its argument is the task's id; all else is in the record.

    Subclasses say how to get the answer (``perform``). Celery's own result is never used.
    """

    abstract = True

    def perform(self, runtime: EngineRuntime, attempt: Attempt, call: Call) -> tuple[int, bytes]:
        """Get the engine's answer, publishing its events; return HTTP status and body.

        Raises EngineError for an answer that is an error, EngineProtocolError for one that is none, EngineLost where it
        breaks off.
        """
        raise NotImplementedError

    def resume(self, attempt: Attempt, chunks: Sequence[bytes]) -> Attempt | None:
        """Return an attempt that goes on behind what earlier ones have published; None where that cannot be."""
        return None

    def new_call(self) -> Call:
        """Return the call that an attempt waits for."""
        return Call()

    def execute(self, task_id: str) -> None:
        """Claim the task, run it, and write how it ended."""
        runtime = engine_runtime()
        if not runtime.supervisor.ready.wait(ENGINE_WAIT_S):
            raise Reject("the engine is not ready", requeue=True)
        # Delivered again while it runs here, after an outage longer than its lease: it is in good hands.
        claimed = "running here" if task_id in runtime.running else runtime.records.claim(task_id, runtime.name)
        if claimed == "yield":
            worker.count_refusal(self.name, claimed)
            time.sleep(YIELD_S)
            raise Reject("interactive work goes first", requeue=True)
        if isinstance(claimed, str):
            worker.count_refusal(self.name, claimed)
            logger.info("task dropped", extra={"task_id": task_id, "reason": claimed})
            return
        worker.observe_claim(claimed)
        started = time.monotonic()
        with runtime.running.track(claimed, self.new_call()) as call:
            outcome = runtime.run_attempt(claimed, partial(self._attempt, runtime, claimed, call))
        worker.count_attempt(claimed.kind, outcome, call.stopped_at)
        extra = {"task_id": task_id, "kind": claimed.kind, "attempt": claimed.number, "outcome": outcome}
        extra |= {"ms": round((time.monotonic() - started) * 1000), "request_id": claimed.request_id}
        quiet = outcome == "succeeded" and QUICK_QUEUES.issuperset(runtime.queues)
        logger.log(logging.DEBUG if quiet else logging.INFO, "task ended", extra=extra)
        if outcome == "handed back":
            raise Reject("the engine went away", requeue=True)

    def _attempt(self, runtime: EngineRuntime, attempt: Attempt, call: Call) -> str:
        records = runtime.records
        try:
            going_on = self._resumed(runtime, attempt) if attempt.resumed else attempt
            if going_on is None:
                # A client may have read half an answer: this attempt would write a second beginning behind it.
                return "failed" if records.fail(attempt, EngineLost()) else "stale"
            status, body = self.perform(runtime, going_on, call)
        except StaleAttempt:
            return "stale"
        except Interrupted as interrupted:
            return "cancelled" if records.finish_cancelled(attempt, interrupted.answer) else "stale"
        except EngineLost as error:
            return self._broken_off(runtime, attempt, call.stopped, error)
        except (EngineError, EngineProtocolError, ArtifactsUnavailable) as error:
            return "failed" if records.fail(attempt, error) else "stale"
        return "succeeded" if records.succeed(attempt, status, body) else "stale"

    def _broken_off(
        self, runtime: EngineRuntime, attempt: Attempt, stopped: StopReason | None, error: GraycatError
    ) -> str:
        """End an attempt whose call to the engine broke off, by us (``stopped``) or by itself."""
        if stopped in (StopReason.CANCELLED, StopReason.INTERRUPTED):
            return "cancelled" if runtime.records.finish_cancelled(attempt) else "stale"
        if stopped == StopReason.TIMED_OUT:
            return "timed out" if runtime.records.fail(attempt, TaskTimeout()) else "stale"
        if stopped == StopReason.STALE:
            return "stale"
        if stopped != StopReason.SHUTDOWN:
            runtime.supervisor.suspect()
        chunks = self._chunks(runtime, attempt)
        if chunks and self.resume(attempt, chunks) is None:
            return "failed" if runtime.records.fail(attempt, error) else "stale"
        return "handed back" if runtime.records.release(attempt) else "stale"

    def _resumed(self, runtime: EngineRuntime, attempt: Attempt) -> Attempt | None:
        chunks = self._chunks(runtime, attempt)
        return self.resume(attempt, chunks) if chunks else attempt

    @staticmethod
    def _chunks(runtime: EngineRuntime, attempt: Attempt) -> list[bytes]:
        return [event.data for event in runtime.records.events(attempt.task_id) if event.kind == events.CHUNK]
