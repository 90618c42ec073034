"""EngineTask: what a delivered task goes through, from the claim to its terminal state."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial

from celery import Task
from celery.exceptions import Reject

from graycat import families
from graycat.engines.client import Call, StopReason
from graycat.errors import (
    EngineError,
    EngineKilled,
    EngineLost,
    EngineNotReady,
    EngineProtocolError,
    GraycatError,
    RequestError,
    StaleAttempt,
    TaskTimeout,
)
from graycat.metrics import worker
from graycat.queue import ids
from graycat.queue.kinds import STREAM
from graycat.queue.models import Attempt, ReleaseReason
from graycat.queue.topology import QUICK_QUEUES
from graycat.redaction.paths import hide_paths_in_error
from graycat.storage.errors import ArtifactsUnavailable
from graycat.tasks.llm_blame import blame_caller
from graycat.tasks.published import Published
from graycat.worker.runtime import EngineRuntime, engine_runtime, process

logger = logging.getLogger(__name__)

#: Seconds that a task waits for an engine that is not ready. Then its message goes back to the queue.
ENGINE_WAIT_S = 1.0
#: Seconds until the message of bulk work goes back to the queue, if interactive tasks are to run first.
YIELD_DELAY_S = 0.05


class Interrupted(Exception):
    """Raised if a task was asked to end with what it has so far; ``answer`` is an unfinished result."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("interrupted")
        self.answer = answer


class LostChunks(Exception):
    """Raised if an earlier attempt has published a part of its answer that no engine can continue."""


class RecordTask(Task[..., None]):
    """A Celery task of which Celery's own commands and a message's headers decide nothing."""

    abstract = True
    Request = "graycat.worker.celery_request:RecordRequest"


class EngineTask(RecordTask):
    """A Celery task that calls the worker's engine. Its argument is the task's id; the record holds the rest.

    Subclasses get the answer in ``perform``. Celery's own result is not used.
    """

    abstract = True

    def perform(self, runtime: EngineRuntime, attempt: Attempt, call: Call) -> tuple[int, bytes]:
        """Get the engine's answer and publish its events; return the answer's HTTP status and body.

        Raises EngineError if the engine replies with an error, EngineProtocolError if its reply cannot be understood,
        and EngineLost if the reply breaks off.
        """
        raise NotImplementedError

    def resume(self, attempt: Attempt, chunks: Sequence[bytes]) -> Attempt | None:
        """Return an attempt that continues after the chunks of earlier attempts; None if that is impossible."""
        return None

    def whole_answer(
        self, runtime: EngineRuntime, attempt: Attempt, chunks: Sequence[bytes]
    ) -> tuple[int, bytes] | None:
        """Return HTTP status and body of an answer whose last chunk is published; None if more chunks were to come."""
        return None

    def settle(self, runtime: EngineRuntime, attempt: Attempt) -> None:
        """Return when the engine is done with an attempt whose call was stopped: until then no other task is taken."""

    def new_call(self) -> Call:
        """Return the call of an attempt."""
        return Call()

    def execute(self, task_id: str) -> None:
        """Claim the task, run an attempt at it, and write its outcome. Raises Reject to give the message back.

        What is no id of such a task is dropped.
        """
        if not self._belongs_here(task_id):
            # The task has a message of its own, in its own queue.
            logger.warning("message dropped: sent to a worker that cannot run it", extra={"kind": self.name})
            return
        runtime = engine_runtime()
        if not runtime.supervisor.ready.wait(ENGINE_WAIT_S):
            raise Reject("the engine is not ready", requeue=True)
        attempt = self._claim(runtime, task_id)
        if attempt is None:
            return

        worker.observe_claim(attempt)
        started_at = time.monotonic()
        with (
            runtime.running.track(attempt, self.new_call()) as call,
            runtime.access.enter(attempt.deaths, lambda: call.stopped is not None) as entered,
        ):
            if entered and not runtime.supervisor.ready.wait(ENGINE_WAIT_S):
                # The engine died while this task waited for its turn on it: that is not this task's fault.
                outcome = _outcome("handed back", runtime.records.release(attempt, ReleaseReason.FREE))
            elif entered:
                outcome = runtime.run_attempt(attempt, partial(self._run_attempt, runtime, attempt, call))
            else:
                outcome = self._end_broken_call(runtime, attempt, call, EngineLost(), runtime.supervisor.starts)
        worker.count_attempt(attempt.kind, outcome, call.stopped_at)
        self._log_end(runtime, attempt, outcome, time.monotonic() - started_at)
        if call.stopped not in (None, StopReason.SHUTDOWN):
            self.settle(runtime, attempt)
        if outcome == "handed back":
            raise Reject("the engine went away", requeue=True)

    @staticmethod
    def _log_end(runtime: EngineRuntime, attempt: Attempt, outcome: str, seconds: float) -> None:
        level = logging.INFO
        if outcome == "succeeded" and QUICK_QUEUES.issuperset(runtime.queues):
            # There are very many of these.
            level = logging.DEBUG
        extra = {
            "task_id": attempt.task_id,
            "kind": attempt.kind,
            "attempt": attempt.number,
            "outcome": outcome,
            "ms": round(seconds * 1000),
            "request_id": attempt.request_id,
        }
        logger.log(level, "task ended", extra=extra)

    def _belongs_here(self, task_id: object) -> bool:
        """Return whether this worker's engine runs such tasks: a message of another program may lie in any queue."""
        if process.engine is None or not isinstance(task_id, str):
            return False
        family = families.find_by_queues(process.engine.queues)
        return family == families.find_by_kind(self.name) and ids.is_id_for(task_id, self.name)

    def _claim(self, runtime: EngineRuntime, task_id: str) -> Attempt | None:
        """Return a new attempt; None if the task is not to be run. Raises Reject if it is to be run later."""
        claimed: Attempt | str
        if task_id in runtime.running:
            # After a broker outage longer than its lease, the message of a running task was delivered again.
            claimed = "running here"
        else:
            claimed = runtime.records.claim(task_id, runtime.name, runtime.excluded_queues)
        if isinstance(claimed, Attempt):
            return claimed

        worker.count_refusal(self.name, claimed)
        if claimed == "yield":
            time.sleep(YIELD_DELAY_S)
            raise Reject("interactive work goes first", requeue=True)
        logger.info("task dropped", extra={"task_id": task_id, "reason": claimed})
        return None

    def _run_attempt(self, runtime: EngineRuntime, attempt: Attempt, call: Call) -> str:
        """Run an attempt; return its outcome."""
        records = runtime.records
        starts = runtime.supervisor.starts
        try:
            status, body = self._answer(runtime, attempt, call)
        except StaleAttempt:
            return "stale"
        except Interrupted as interrupted:
            return _outcome("cancelled", records.finish_cancelled(attempt, interrupted.answer))
        except LostChunks:
            return _outcome("failed", records.fail(attempt, EngineLost()))
        except EngineLost as error:
            return self._end_broken_call(runtime, attempt, call, error, starts)
        except (EngineError, EngineProtocolError, ArtifactsUnavailable, RequestError, EngineNotReady) as error:
            return _outcome("failed", records.fail(attempt, _for_the_caller(error, attempt)))
        return _outcome("succeeded", records.succeed(attempt, status, body))

    def _answer(self, runtime: EngineRuntime, attempt: Attempt, call: Call) -> tuple[int, bytes]:
        """Get the answer: from what earlier attempts have published of it if it is whole, else from the engine.

        Raises what ``perform`` raises, and LostChunks.
        """
        published = Published.read(runtime, attempt) if attempt.resumed else Published([])
        if not published.chunks:
            return self.perform(runtime, attempt, call)
        answer = self._rebuild(runtime, attempt, published)
        if answer is not None:
            # Its worker died between the last event and the terminal state.
            return answer
        return self.perform(runtime, self._resume_published(runtime, attempt, published), call)

    def _rebuild(self, runtime: EngineRuntime, attempt: Attempt, published: Published) -> tuple[int, bytes] | None:
        """Return HTTP status and body of an answer that is published to its end; None if that is not known."""
        # The body of a stream is empty, whatever came before its last chunk.
        if published.is_cut and attempt.mode != STREAM:
            return None
        return self.whole_answer(runtime, attempt, published.chunks)

    def _continue(self, attempt: Attempt, published: Published) -> Attempt | None:
        """Return an attempt that continues what is published; None if that is impossible."""
        if published.is_cut:
            return None
        return self.resume(attempt, published.chunks)

    def _resume_published(self, runtime: EngineRuntime, attempt: Attempt, published: Published) -> Attempt:
        """Return an attempt that continues what earlier ones have published, or begins anew. Raises LostChunks."""
        resumed = self._continue(attempt, published)
        if resumed is not None:
            return resumed
        if attempt.kept:
            # Who reads a task's events is told to drop the chunks so far.
            return runtime.records.restart(attempt)
        # A client may have read the beginning of an answer. A new answer would repeat the beginning.
        raise LostChunks

    def _end_broken_call(
        self, runtime: EngineRuntime, attempt: Attempt, call: Call, error: GraycatError, starts: int
    ) -> str:
        """End an attempt whose call broke off; return its outcome.

        ``starts``: how often the engine had been started when the attempt began.
        """
        records = runtime.records
        stopped = call.stopped
        was_alone = runtime.access.is_alone()
        if stopped in (StopReason.CANCELLED, StopReason.INTERRUPTED):
            return _outcome("cancelled", records.finish_cancelled(attempt))
        if stopped == StopReason.TIMED_OUT:
            return _outcome("timed out", records.fail(attempt, TaskTimeout()))
        if stopped == StopReason.STALE:
            return "stale"
        reason = ReleaseReason.FREE
        if stopped != StopReason.SHUTDOWN:
            runtime.supervisor.suspect()
            reason = _blame(died=runtime.engine_died_since(starts), alone=was_alone)
        return self._end_lost_call(runtime, attempt, error, reason)

    def _end_lost_call(
        self, runtime: EngineRuntime, attempt: Attempt, error: GraycatError, reason: ReleaseReason
    ) -> str:
        """End an attempt that nobody has stopped and whose call broke off; return its outcome."""
        records = runtime.records
        published = Published.read(runtime, attempt)
        answer = self._rebuild(runtime, attempt, published)
        if answer is not None:
            return _outcome("succeeded", records.succeed(attempt, *answer))
        if published.chunks and not attempt.kept and self._continue(attempt, published) is None:
            return _outcome("failed", records.fail(attempt, error))
        try:
            return _outcome("handed back", records.release(attempt, reason))
        except EngineKilled as killed:
            # The engine is not at fault, so its next start need not wait for the back-off.
            runtime.supervisor.excuse_failures()
            return _outcome("failed", records.fail(attempt, killed))


def _for_the_caller(error: GraycatError, attempt: Attempt) -> GraycatError:
    """Return an error as the caller may read it: an engine's own blames the right one and has no paths."""
    if not isinstance(error, EngineError):
        return error
    if attempt.kind.startswith(f"{families.LLM.name}."):
        error = blame_caller(error)
    return EngineError(error.status, hide_paths_in_error(error.reply, attempt.body))


def _blame(*, died: bool, alone: bool) -> ReleaseReason:
    """Return why an attempt that lost its engine is released; ``alone``: no other task was on the engine."""
    if not died:
        return ReleaseReason.CHARGED
    if alone:
        return ReleaseReason.ENGINE_DIED_ALONE
    return ReleaseReason.ENGINE_DIED


def _outcome(outcome: str, written: bool) -> str:
    """Return an attempt's outcome: ``stale`` if it was not written, because the task is another attempt's by now."""
    if written:
        return outcome
    return "stale"
