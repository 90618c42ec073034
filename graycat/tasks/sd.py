"""Image tasks: one render at a time, watched while it runs, its images kept outside the broker's lists."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import shared_task

from graycat.engines.client import Call, StopReason
from graycat.engines.webui import WebuiEngine
from graycat.errors import EngineError, EngineLost, EngineProtocolError, StaleAttempt
from graycat.images.replies import content_type, extract_images
from graycat.metrics import worker
from graycat.queue.kinds import EXTRA_BATCH, EXTRA_SINGLE, IMG2IMG, INTERROGATE, SD_KINDS, TXT2IMG
from graycat.queue.models import Attempt, Verdict
from graycat.tasks.base import EngineTask, Interrupted
from graycat.tasks.sd_progress import ProgressReporter
from graycat.worker.runtime import EngineRuntime
from graycat.worker.stream_relay import STOP_REASONS

logger = logging.getLogger(__name__)

#: Seconds between two interrupts of one render: engines forget one that comes before they have really begun.
INTERRUPT_AGAIN_S = 1.0
#: Seconds that an interrupted engine gets to answer. It decodes what it has, and may be loading a model.
INTERRUPT_PATIENCE_S = 60.0
#: Kinds after which an engine has other things to say of itself.
CHANGING = frozenset(SD_KINDS) - {
    kind.name
    for kind in (
        *(TXT2IMG, IMG2IMG, INTERROGATE),
        *(EXTRA_SINGLE, EXTRA_BATCH),
    )
}


class Render(Call):
    """A call of an image engine. Hanging up would not stop it, so ``stop`` has it interrupted."""

    def __init__(self) -> None:
        super().__init__()
        #: Set at anything that the watcher should look at.
        self.bell = threading.Event()
        self.skip_asked = False

    def stop(self, reason: StopReason) -> None:
        """Have the render stopped; the first reason stays."""
        with self._lock:
            self._record_stop(reason)
        self.bell.set()

    def skip(self) -> bool:
        """Have the engine leave out the rest of the batch that it is at."""
        self.skip_asked = True
        self.bell.set()
        return True

    def hang_up(self) -> None:
        """Give the call up, whatever its engine does."""
        super().stop(self.stopped or StopReason.CANCELLED)


class Watcher:
    """A thread beside a render: reports its progress, and interrupts it when it is told to.

    Nothing is sent to the engine before ``__enter__`` or after ``__exit__``, so an interrupt never meets the render of
    another task.
    """

    def __init__(
        self,
        engine: WebuiEngine,
        render: Render,
        reporter: ProgressReporter,
        patience_s: float,
        give_up: Callable[[], None],
    ) -> None:
        """``give_up`` is called where the engine has not stopped ``patience_s`` seconds after the first interrupt."""
        self._give_up = give_up
        self._patience_s = patience_s
        self._engine = engine
        self._render = render
        self._reporter = reporter
        self._lock = threading.Lock()
        self._over = False
        self._give_up_at = 0.0
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._over = True
        self._render.bell.set()
        self._thread.join()

    def _run(self) -> None:
        pause_s = self._reporter.EVERY_S
        while True:
            self._render.bell.wait(pause_s)
            self._render.bell.clear()
            with self._lock:
                if self._over:
                    return
                pause_s = self._look()

    def _look(self) -> float:
        """Do what is to be done now; return the seconds until the next look."""
        try:
            if self._render.stopped is not None:
                self._interrupt()
                return INTERRUPT_AGAIN_S
            if self._render.skip_asked:
                self._render.skip_asked = False
                self._engine.post("skip")
            self._reporter.report()
        except EngineLost:
            # The render itself finds out, or the supervisor.
            logger.debug("image engine does not answer")
        return self._reporter.EVERY_S

    def _interrupt(self) -> None:
        now = time.monotonic()
        self._give_up_at = self._give_up_at or now + self._patience_s
        if now >= self._give_up_at:
            logger.warning("interrupted render given up")
            self._render.hang_up()
            self._give_up()
        else:
            self._engine.post("interrupt")


class SdTask(EngineTask):
    """A call of an image engine."""

    abstract = True

    def new_call(self) -> Call:
        """Return a call that is stopped by an interrupt."""
        return Render()

    def perform(self, runtime: EngineRuntime, attempt: Attempt, call: Call) -> tuple[int, bytes]:
        """Have the engine render, and store its images; the answer holds their numbers."""
        kind = SD_KINDS[attempt.kind]
        engine = runtime.engine
        if not isinstance(engine, WebuiEngine) or not isinstance(call, Render):
            raise EngineProtocolError
        reporter = ProgressReporter(engine, runtime.records, attempt, call)
        if call.stopped is not None:
            raise EngineLost
        if attempt.number > 1:
            # This attempt may make fewer images than the one before.
            runtime.artifacts.delete(attempt.task_id)
        began_at = time.monotonic()
        patience_s = INTERRUPT_PATIENCE_S if _interruptible(runtime) else attempt.exec_timeout_s
        with (
            Watcher(engine, call, reporter, patience_s, runtime.supervisor.request_restart),
            # Sent again behind our back, an image would be made twice, the second time in nobody's count.
            engine.client.open("POST", kind.path, attempt.body, call=call, timeout_s=None, once=True) as response,
        ):
            reply = response.read()
        took_s = time.monotonic() - began_at
        # Stored under the task's id alone, images of an attempt that was taken over would replace the newer one's.
        verdict = runtime.records.renew(attempt.task_id, attempt.number)
        if verdict is Verdict.STALE:
            raise StaleAttempt
        if reason := STOP_REASONS.get(verdict):
            call.stop(reason)
        if call.stopped not in (None, StopReason.INTERRUPTED):
            # What it has rendered until it was stopped is nobody's.
            raise EngineLost
        if response.status >= 400:
            raise EngineError(response.status, reply)
        if kind.name in CHANGING:
            # Whoever asks next should find what this has changed.
            runtime.supervisor.describe()
            runtime.report()
        answer = _store(runtime, attempt, reply, took_s, partial=call.stopped is not None)
        if call.stopped is not None:
            raise Interrupted(answer)
        return 200, answer


def _interruptible(runtime: EngineRuntime) -> bool:
    """Tell whether the engine stops when it is told to; one that does not is waited for, since it is not free."""
    info = runtime.supervisor.info
    return info is None or bool(json.loads(info.props).get("interruptible", True))


def _store(runtime: EngineRuntime, attempt: Attempt, reply: bytes, took_s: float, *, partial: bool) -> bytes:
    """Store a reply's images and return the reply without them; ``took_s``: how long the engine was at them.

    Raises EngineProtocolError, ArtifactsUnavailable.
    """
    if not reply:
        # SD.Next answers control calls with 204 and nothing.
        return b"null"
    try:
        parsed: Any = json.loads(reply)
    except ValueError:
        raise EngineProtocolError from None
    if not isinstance(parsed, dict):
        return reply
    without, images = extract_images(parsed)
    for number, image in enumerate(images):
        runtime.artifacts.put(attempt.task_id, number, image, content_type(image), attempt.owner)
    if images:
        echo = parsed.get("parameters")
        steps = echo.get("steps") if isinstance(echo, dict) else 0
        worker.observe_images(attempt.kind, took_s, len(images), steps if isinstance(steps, int) else 0)
    if partial:
        without["info"] = _marked_partial(without.get("info"))
    return json.dumps(without).encode()


def _marked_partial(info: Any) -> Any:
    """Return an ``info`` that says what the engine does not: that these images are not finished."""
    try:
        return json.dumps(json.loads(info) | {"partial": True})
    except (ValueError, TypeError):
        return json.dumps({"partial": True})


def _run(self: SdTask, task_id: str) -> None:
    self.execute(task_id)


for _kind in SD_KINDS.values():
    shared_task(name=_kind.name, base=SdTask, bind=True)(_run)
