"""Supervision of one engine: start it, wait for its model, notice its death, and start it again with back-off."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from graycat.engines.base import Engine, EngineInfo, EngineUnusable, Health, State
from graycat.engines.models.background import BackgroundDownload
from graycat.engines.process.command import is_listening
from graycat.errors import EngineLost, EngineUnauthorized

logger = logging.getLogger(__name__)

#: Seconds before the second start in a row; doubled for each further one, up to the maximum.
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.5, 30.0
#: After so many seconds in which the engine was ready, its earlier failures no longer count.
RESET_FAILURES_AFTER_S = 60.0
#: Seconds between two health checks of a ready engine; while it loads, every step checks.
HEALTH_INTERVAL_S = 2.0
#: Seconds between two calls of ``describe``: models and settings may change while an engine runs.
DESCRIBE_INTERVAL_S = 30.0
#: After so many seconds in which an engine that answered before refuses every connection, it has failed although its
#: process runs: it has closed its port, and will not open it again.
REFUSED_KILL_AFTER_S = 10.0
#: After so many seconds in which an engine without work answers every health check, but is not ready, it has failed.
UNHEALTHY_KILL_AFTER_S = 600.0
#: Seconds that a silent engine gets for its last answer before it is stopped: slow is not dead.
LAST_PROBE_TIMEOUT_S = 10.0
#: Failures in a row that are called a crash loop. One may happen to any engine, and two to one that is killed while it
#: starts again. The loop is over when the engine has been ready for RESET_FAILURES_AFTER_S.
CRASH_LOOP_FAILURES = 3

#: Why an engine whose process runs is not ready, by the result of its health check.
TROUBLES = {
    Health.UNRESPONSIVE: "engine does not answer",
    Health.UNAUTHORIZED: "engine refuses the key or password that it is sent: see GRAYCAT_ENGINE_API_KEY and A1111_URL",
    Health.UNREACHABLE: "nothing listens at the engine's address",
}
#: Why an engine is not started beside what listens where it would.
PORT_TAKEN = "another process uses the engine's port {port}: stop it, or choose another with LLM_PORT or SD_PORT"
#: For so many seconds an engine that another worker starts may listen nowhere without a line of ERROR in the log.
START_PATIENCE_S = 60.0


class Child(Protocol):
    """What the supervisor needs from the engine's process."""

    def start(self) -> None: ...

    def alive(self) -> bool: ...

    @property
    def exit_reason(self) -> str: ...

    def stop(self) -> None: ...


class Supervisor:
    """Moves one engine through its states. ``step`` never sleeps; its caller passes the time in seconds."""

    def __init__(
        self,
        engine: Engine,
        child: Child | None,
        download: BackgroundDownload | None = None,
        kill_after_s: float = 60.0,
    ) -> None:
        """``child``: None for an engine that runs already. ``download``: must be ready before the first start.

        ``kill_after_s``: seconds without a sign of life after which an engine that runs is started anew.
        """
        self.engine = engine
        self.kill_after_s = kill_after_s
        self.download = download
        #: Set while the engine takes work, for threads that wait for it.
        self.ready = threading.Event()
        self.state = State.STOPPED
        #: What the engine last told about itself; None until it was ready once.
        self.info: EngineInfo | None = None
        self.starts = 0
        #: Seconds from its last start until it was ready; 0 until it was ready once.
        self.load_s = 0.0
        self._started_at: float | None = None
        #: Why it is not ready; '' if it is.
        self.trouble = ""
        #: Why it failed last; '' when its failures no longer count.
        self.last_failure = ""
        #: Returns whether a task of ours runs on the engine, so that a health check may have to wait behind it.
        self.busy: Callable[[], bool] = lambda: True
        #: Returns when the engine last sent anything in any call, on the clock of ``step``.
        self.heard_at: Callable[[], float] = lambda: 0.0

        self._logged_trouble = ""
        self._child = child
        self._failures = 0
        self._now = 0.0
        #: The time before which it is not started again.
        self._start_at = 0.0
        self._ready_at = 0.0
        #: When it last answered a health check, and when it last was healthy.
        self._answered_at = 0.0
        self._healthy_at = 0.0
        self._next_probe_at = 0.0
        self._next_describe_at = 0.0
        self._suspected = False
        self._restart_requested = False

    @property
    def state(self) -> State:
        """Return the engine's state."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        if state is State.READY:
            self.ready.set()
        else:
            self.ready.clear()

    def step(self, now: float) -> State:
        """Do what is due: start the engine, mark it as ready or as failed; return the new state."""
        self._now = now
        if self._restart_requested:
            self._restart_requested = False
            self._mark_failed(now, "engine does not stop when it is told to")
        elif self.state in (State.STOPPED, State.DOWNLOADING):
            if self.download is not None and not self.download.ready():
                self.state = State.DOWNLOADING
                self.trouble = self.download.detail
            elif now >= self._start_at:
                self._start(now)
        elif self._child is not None and not self._child.alive():
            self._mark_failed(now, "engine process died", self._child.exit_reason)
        elif self.state is State.LOADING and not self._suspected:
            # A model may take any time to load: if the engine gives up, its process ends.
            self._check_loading(now)
        elif self.state is not State.READY or now >= self._next_probe_at:
            self._check_health(now)
        return self.state

    def describe(self) -> None:
        """Ask the engine about itself again. Raises EngineLost."""
        self.info = self.engine.describe()

    @property
    def failures(self) -> int:
        """Return how often it has failed in a row."""
        return self._failures

    @property
    def crash_loop(self) -> bool:
        """Return whether it fails again and again; also true in the pauses between two failures."""
        return self._failures >= CRASH_LOOP_FAILURES

    @property
    def retry_in_s(self) -> float:
        """Return the seconds until the next start; 0 if none is due."""
        if self.state is not State.STOPPED:
            return 0.0
        return max(self._start_at - self._now, 0.0)

    def request_restart(self) -> None:
        """Have the next step restart an engine that does not stop a call. Thread-safe."""
        self._restart_requested = True

    def excuse_failures(self) -> None:
        """Forget the failures in a row, and start a stopped engine at once: a request was at fault. Thread-safe."""
        self._failures = 0
        self._start_at = self._now

    def suspect(self) -> None:
        """Suspect a ready engine after a call to it broke off: it is not ready until it passes a health check."""
        if self.state is State.READY:
            self._suspected = True
            self.state = State.LOADING

    def stop(self) -> None:
        """Stop the download, and the engine if it is a child of ours."""
        if self.download is not None:
            self.download.stop()
        if self._child is not None:
            self._child.stop()
        self.state = State.STOPPED

    def _start(self, now: float) -> None:
        if self.state is State.DOWNLOADING:
            self.trouble = ""
        self.starts += 1
        self._started_at = now
        self.state = State.LOADING
        if self._child is None:
            return
        if is_listening(self.engine.url):
            # Some engines share a port silently, and then each of them receives half of the calls.
            self._mark_failed(now, PORT_TAKEN.format(port=urlsplit(self.engine.url).port))
            return
        try:
            self._child.start()
        except OSError as error:
            self._mark_failed(now, "engine cannot be started", why_no_start(error))

    def _check_loading(self, now: float) -> None:
        """Check an engine that was started and has not been ready since."""
        health = self.engine.health()
        if health is Health.HEALTHY:
            self._mark_ready(now)
        elif self._child is None or health in (Health.UNAUTHORIZED, Health.LOADING):
            # A child of ours that does not answer yet is no trouble: it loads.
            waited_s = now - (self._started_at or 0.0)
            starts = health in (Health.UNREACHABLE, Health.LOADING) and waited_s < START_PATIENCE_S
            self._set_trouble(TROUBLES.get(health) or self.engine.explain(), starts=starts)

    def _set_trouble(self, trouble: str, *, starts: bool = False) -> None:
        """Record why an engine whose process runs is not ready; log it once, unless it only ``starts``."""
        self.trouble = trouble
        if starts:
            return
        if trouble and trouble != self._logged_trouble:
            logger.error(trouble, extra={"engine": self.engine.name})
        self._logged_trouble = trouble

    def _mark_ready(self, now: float) -> None:
        """Mark a healthy engine as ready, if it also describes itself."""
        try:
            self.info = self.engine.describe()
        except EngineUnauthorized:
            self._set_trouble(TROUBLES[Health.UNAUTHORIZED])
            return
        except EngineUnusable as error:
            self._set_trouble(str(error))
            return
        except EngineLost:
            return

        self.state = State.READY
        if self._started_at is not None:
            # After a mere suspicion there was no start to measure from.
            self.load_s = now - self._started_at
            self._started_at = None
        self._suspected = False
        self.trouble = self._logged_trouble = ""
        self._ready_at = now
        self._answered_at = now
        self._healthy_at = now
        self._next_probe_at = now + HEALTH_INTERVAL_S
        self._next_describe_at = now + DESCRIBE_INTERVAL_S
        logger.debug("engine ready", extra={"engine": self.engine.name, "slots": self.info.slots})

    def _check_health(self, now: float) -> None:
        """Check an engine that is ready, stuck or suspected."""
        self._next_probe_at = now + HEALTH_INTERVAL_S
        health = self.engine.health()
        if health in (Health.UNRESPONSIVE, Health.UNREACHABLE):
            self._judge_silence(now, health)
            return
        self._answered_at = now
        if health is Health.HEALTHY and self.state is State.READY:
            self._healthy_at = now
            self._refresh(now)
        elif health is Health.HEALTHY:
            self._mark_ready(now)
        else:
            self._judge_answer(now, health)

    def _judge_answer(self, now: float, health: Health) -> None:
        """Take an engine off its work that answers, but is not ready: it loads its model again, or refuses our key."""
        if now - self._healthy_at >= UNHEALTHY_KILL_AFTER_S and not self.busy():
            explained = self.engine.explain() or "engine says that it is not ready"
            self._mark_failed(now, TROUBLES.get(health, explained))
            return
        self._suspected = True
        self.state = State.LOADING
        self._set_trouble(TROUBLES.get(health) or self.engine.explain())

    def _judge_silence(self, now: float, health: Health) -> None:
        """Take an engine off its work that did not answer a health check; stop it only after a long silence."""
        unresponsive = health is Health.UNRESPONSIVE
        if unresponsive and now - self._answered_at < self.engine.busy_timeout_s and self.busy():
            # The engine answers nothing while it works.
            return
        kill_after_s = self.kill_after_s
        if unresponsive:
            self.state = State.STUCK
        else:
            self._suspected = True
            self.state = State.LOADING
            kill_after_s = min(kill_after_s, REFUSED_KILL_AFTER_S)
        self._set_trouble(TROUBLES[health])
        if now - max(self._answered_at, self.heard_at()) < kill_after_s:
            return
        if unresponsive and self._answers_at_last():
            self._answered_at = now
        else:
            self._mark_failed(now, TROUBLES[health])

    def _answers_at_last(self) -> bool:
        """Ask a silent engine once more, and wait longer: slow is not dead. Return whether anything came."""
        last_probe_s = min(LAST_PROBE_TIMEOUT_S, self.kill_after_s / 2)
        return self.engine.health(last_probe_s) not in (Health.UNRESPONSIVE, Health.UNREACHABLE)

    def _refresh(self, now: float) -> None:
        """Forget the failures of an engine that has been ready for long, and describe it again if that is due."""
        if now - self._ready_at > RESET_FAILURES_AFTER_S:
            self._failures = 0
            self.last_failure = ""
        if now >= self._next_describe_at:
            self._next_describe_at = now + DESCRIBE_INTERVAL_S
            with contextlib.suppress(EngineLost):
                self.describe()

    def _mark_failed(self, now: float, reason: str, detail: object = "") -> None:
        """Stop what is left of a failed engine, and schedule its next start."""
        if self._child is not None:
            self._child.stop()
        backoff_s = min(FIRST_BACKOFF_S * 2**self._failures, MAX_BACKOFF_S)
        self._failures += 1
        self._start_at = now + backoff_s
        self._suspected = False
        self.last_failure = reason
        if detail:
            self.last_failure += f" ({detail})"
        self.trouble = self.last_failure
        if self.crash_loop:
            self.trouble = f"crash loop: {self.last_failure}"
        self.state = State.STOPPED
        extra = {"engine": self.engine.name, "failures": self._failures, "retry_in_s": backoff_s}
        logger.error(self.trouble, extra=extra)


def why_no_start(error: OSError) -> str:
    """Return why a program cannot be started, with its name if that is what is wrong."""
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"there is no program {error.filename}"
    return error.strerror or "input/output error"
