"""Image tasks: one render at a time, watched while it runs. Its images are stored apart from its record."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from celery import shared_task

from graycat.bounds.stored import parse_json
from graycat.engines.client import Call, StopReason
from graycat.engines.renders import ImageEngine, Render, RenderJob
from graycat.errors import EngineError, EngineLost, EngineProtocolError, StaleAttempt
from graycat.images.habits import adapt, name_checkpoint
from graycat.images.made import Difference
from graycat.images.output import split_output
from graycat.loops.unexpected import guarded
from graycat.queue.kinds import (
    EXTRA_BATCH,
    EXTRA_SINGLE,
    IMG2IMG,
    INTERROGATE,
    SD_KINDS,
    SET_OPTIONS,
    TXT2IMG,
    WORKFLOW,
)
from graycat.queue.models import Attempt, Verdict
from graycat.tasks.asked_names import check_names
from graycat.tasks.base import EngineTask, Interrupted
from graycat.tasks.sd_answers import Request, store_images
from graycat.tasks.sd_progress import ProgressReporter
from graycat.worker.runtime import EngineRuntime
from graycat.worker.stream_relay import STOP_REASONS

logger = logging.getLogger(__name__)

#: Seconds between two interrupts of one render: an engine forgets an interrupt that comes before it has begun.
INTERRUPT_INTERVAL_S = 1.0
#: Seconds that an interrupted engine may take to answer. It decodes what it has, and may be loading a model.
INTERRUPT_TIMEOUT_S = 60.0
#: Kinds that make images or text. All other kinds change what the engine tells about itself.
_RENDER_KINDS = frozenset(kind.name for kind in (TXT2IMG, IMG2IMG, INTERROGATE, EXTRA_SINGLE, EXTRA_BATCH, WORKFLOW))
#: Kinds whose bodies are written as their engine needs them.
_ADAPTED_KINDS = frozenset(kind.name for kind in (TXT2IMG, IMG2IMG, SET_OPTIONS))


class RenderCall(Call):
    """A call to an image engine. A closed connection would not stop the render, so ``stop`` requests an interrupt."""

    def __init__(self) -> None:
        super().__init__()
        #: Set when the watcher has something to do.
        self.wakeup = threading.Event()
        self.skip_requested = False
        #: Whether the engine took an interrupt: then its images may be unfinished.
        self.interrupted = False

    def stop(self, reason: StopReason) -> None:
        """Request an interrupt; the first reason stays."""
        with self._lock:
            self._record_stop(reason)
        self.wakeup.set()

    def skip(self) -> bool:
        """Request that the engine skips the rest of its current batch."""
        self.skip_requested = True
        self.wakeup.set()
        return True

    def abandon(self) -> None:
        """Close the connection, whatever the engine does."""
        super().stop(self.stopped or StopReason.CANCELLED)


class RenderWatcher:
    """A thread beside a render: it reports progress, and interrupts the render on request.

    It sends nothing to the engine before ``__enter__`` or after ``__exit__``, so an interrupt never reaches the render
    of another task.
    """

    def __init__(
        self,
        render: Render,
        call: RenderCall,
        reporter: ProgressReporter,
        timeout_s: float,
        on_timeout: Callable[[], None],
    ) -> None:
        """``on_timeout`` is called if the engine has not stopped ``timeout_s`` seconds after the first interrupt."""
        self._on_timeout = on_timeout
        self._timeout_s = timeout_s
        self._render = render
        self._call = call
        self._reporter = reporter
        self._lock = threading.Lock()
        self._over = False
        #: When the timeout is over (monotonic clock); 0 until the first interrupt.
        self._deadline = 0.0
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def __enter__(self) -> RenderWatcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._over = True
        self._call.wakeup.set()
        self._thread.join()

    def _run(self) -> None:
        pause_s = self._reporter.INTERVAL_S
        while True:
            self._call.wakeup.wait(pause_s)
            self._call.wakeup.clear()
            with self._lock:
                if self._over:
                    return
                pause_s = self._reporter.INTERVAL_S
                # Without this thread, nobody would interrupt the render.
                with guarded("render watcher"):
                    pause_s = self._step()

    def _step(self) -> float:
        """Send what was requested, or report progress; return the seconds until the next step."""
        try:
            if self._call.stopped is not None:
                self._interrupt()
                return INTERRUPT_INTERVAL_S
            if self._call.skip_requested:
                self._call.skip_requested = False
                self._render.skip()
            self._reporter.report()
        except EngineLost:
            # The render's own call notices that, or the supervisor.
            logger.debug("image engine does not answer")
        return self._reporter.INTERVAL_S

    def _interrupt(self) -> None:
        now = time.monotonic()
        if not self._deadline:
            self._deadline = now + self._timeout_s
        if now < self._deadline:
            if self._render.interrupt():
                self._call.interrupted = True
            return
        logger.warning("interrupted render given up")
        self._call.abandon()
        self._render.give_up()
        self._on_timeout()


class SdTask(EngineTask):
    """A call to an image engine."""

    abstract = True

    def new_call(self) -> Call:
        """Return a call that an interrupt stops."""
        return RenderCall()

    def perform(self, runtime: EngineRuntime, attempt: Attempt, call: Call) -> tuple[int, bytes]:
        """Let the engine render, and store the images; the answer holds their numbers in place of their bytes."""
        engine = runtime.engine
        if not isinstance(engine, ImageEngine) or not isinstance(call, RenderCall):
            raise EngineProtocolError
        if call.stopped is not None:
            raise EngineLost
        if attempt.number > 1:
            # This attempt may make fewer images than the one before.
            runtime.artifacts.delete(attempt.task_id)

        body, wish = split_output(attempt.body)
        if wish is not None:
            attempt = replace(attempt, body=body)
        body, asked, warnings = _prepare(runtime, engine, attempt)
        started_at = time.monotonic()
        status, reply = _render(runtime, engine, attempt, call, body)
        took_s = time.monotonic() - started_at

        _check_still_owned(runtime, attempt, call)
        if status >= 400:
            raise EngineError(status, reply)
        if attempt.kind not in _RENDER_KINDS:
            # The next reader of the engine's lists and options must find the change.
            runtime.supervisor.describe()
            runtime.report()
        partial = call.stopped is not None and call.interrupted
        answer = store_images(runtime, attempt, reply, took_s, Request(asked, warnings, partial, wish))
        if partial:
            raise Interrupted(answer)
        return 200, answer


def _prepare(
    runtime: EngineRuntime, engine: ImageEngine, attempt: Attempt
) -> tuple[bytes, dict[str, Any], list[Difference]]:
    """Return a call's body for this engine, as bytes and as an object, and what the engine will not do as asked."""
    if attempt.kind not in _ADAPTED_KINDS:
        return attempt.body, {}, []
    asked: Any = parse_json(attempt.body)
    info = runtime.supervisor.info
    if not isinstance(asked, dict) or info is None:
        return attempt.body, {}, []
    if attempt.kind == SET_OPTIONS.name:
        return json.dumps(name_checkpoint(asked, info.lists)).encode(), {}, []
    check_names(runtime, asked, info.lists, SD_KINDS[attempt.kind].path.rpartition("/")[2])
    adapted, warnings = adapt(asked, engine.habits, info.lists)
    if adapted == asked:
        return attempt.body, asked, warnings
    return json.dumps(adapted).encode(), adapted, warnings


def _render(
    runtime: EngineRuntime, engine: ImageEngine, attempt: Attempt, call: RenderCall, body: bytes
) -> tuple[int, bytes]:
    """Return status and body of the engine's reply. Raises EngineLost."""
    timeout_s = attempt.exec_timeout_s
    if _is_interruptible(runtime):
        timeout_s = INTERRUPT_TIMEOUT_S
    job = RenderJob(SD_KINDS[attempt.kind].path, body, attempt.task_id, attempt.number)
    render = engine.start_render(job, call)
    reporter = ProgressReporter(render, runtime.records, attempt, call)
    with RenderWatcher(render, call, reporter, timeout_s, runtime.supervisor.request_restart):
        answer = render.run()
    if render.is_whole():
        call.interrupted = False
    return answer


def _is_interruptible(runtime: EngineRuntime) -> bool:
    """Return whether the engine can be interrupted. Otherwise its render must be waited for: it is not free before."""
    info = runtime.supervisor.info
    return info is None or bool(parse_json(info.props).get("interruptible", True))


def _check_still_owned(runtime: EngineRuntime, attempt: Attempt, call: RenderCall) -> None:
    """Raise StaleAttempt if another attempt owns the task, EngineLost if its images are not wanted any more.

    Images are stored under the task's id, so those of a stale attempt would replace those of the newer one.
    """
    verdict = runtime.records.renew(attempt.task_id, attempt.number)
    if verdict is Verdict.STALE:
        raise StaleAttempt
    reason = STOP_REASONS.get(verdict)
    if reason is not None:
        call.stop(reason)
    if call.stopped not in (None, StopReason.INTERRUPTED):
        raise EngineLost


def _run(self: SdTask, task_id: Any = "", *_others: Any, **_named: Any) -> None:
    # Another program may send any arguments.
    self.execute(task_id)


for _kind in SD_KINDS.values():
    shared_task(name=_kind.name, base=SdTask, bind=True)(_run)
