"""Supervision of one engine: start it, wait for its model, notice its death, start it again with back-off."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Protocol

from graycat.engines.base import Engine, EngineInfo, Health, State
from graycat.engines.models.background import BackgroundDownload
from graycat.engines.process.command import listening
from graycat.errors import EngineLost, EngineUnauthorized

logger = logging.getLogger(__name__)

#: Seconds before the second start in a row, doubled for each further one, up to the last.
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.5, 30.0
#: An engine that has been healthy for this many seconds has its failures forgiven.
RESET_FAILURES_AFTER_S = 60.0
#: A healthy engine is asked again every so many seconds; one that loads, at every step.
HEALTH_INTERVAL_S = 2.0
#: Models and settings change while an engine runs; asked again this often.
DESCRIBE_INTERVAL_S = 30.0
#: Failed probes in a row after which a living engine counts as gone.
MAX_FAILED_PROBES = 3
#: Failures in a row that are a crash loop: once may happen to any engine, and twice to one that was killed while it
#: came back. It is over when the engine has been healthy for FORGIVE_AFTER_S.
CRASH_LOOP_FAILURES = 3

SILENT = "engine does not answer"
LOCKED = "engine refuses the key or password that it is sent: see GRAYCAT_ENGINE_API_KEY and A1111_URL"
AWAY = "nobody answers at the engine's address"
#: What keeps a living engine from being ready.
TROUBLES = {Health.UNRESPONSIVE: SILENT, Health.UNAUTHORIZED: LOCKED, Health.UNREACHABLE: AWAY}


class Child(Protocol):
    """What the supervisor needs of the engine's process."""

    def start(self) -> None: ...

    def alive(self) -> bool: ...

    @property
    def ending(self) -> str: ...

    def stop(self) -> None: ...


class Supervisor:
    """Drives one engine through its states; ``step`` never sleeps, its caller keeps the clock (seconds)."""

    def __init__(self, engine: Engine, child: Child | None, download: BackgroundDownload | None = None) -> None:
        """``supply``: the engine's checkpoints, without which it is not started."""
        self.engine = engine
        self.download = download
        #: Set while the engine takes work, for threads that wait for it.
        self.ready = threading.Event()
        self.state = State.STOPPED
        #: What the engine said of itself when it last became ready.
        self.info: EngineInfo | None = None
        self.starts = 0
        #: Seconds from its last start until it was ready; 0 until it was that once.
        self.load_s = 0.0
        self._started_at: float | None = None
        #: Why it is not ready; '' while all is well.
        self.trouble = ""
        #: Why it failed last, until that is forgiven.
        self.last_failure = ""
        #: Tells whether it is at work for us, so that a look at its health may have to wait behind that.
        self.busy: Callable[[], bool] = lambda: True
        self._child = child
        self._failures = 0
        self._now = 0.0
        self._start_at = self._ready_at = self._well_at = self._probe_at = self._describe_at = 0.0
        self._failed_probes = 0
        self._suspected = self._condemned = False

    @property
    def state(self) -> State:
        """Return where the engine is in its life."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        if state is State.READY:
            self.ready.set()
        else:
            self.ready.clear()

    def step(self, now: float) -> State:
        """Start, promote or bury the engine."""
        self._now = now
        if self._condemned:
            self._condemned = False
            self._mark_failed(now, "engine does not stop when it is told to")
        elif self.state in (State.STOPPED, State.DOWNLOADING):
            if self.download is not None and not self.download.ready():
                self.state, self.trouble = State.DOWNLOADING, self.download.detail
            elif now >= self._start_at:
                self._start(now)
        elif self._child is not None and not self._child.alive():
            self._mark_failed(now, "engine process died", self._child.ending)
        elif self.state is State.LOADING and not self._suspected:
            # However long a model takes to load: a process that gives up dies.
            self._look_after_load(now)
        elif self.state is not State.READY or now >= self._probe_at:
            self._watch(now)
        return self.state

    def describe(self) -> None:
        """Ask the engine again what it says of itself. Raises EngineLost."""
        self.info = self.engine.describe()

    @property
    def failures(self) -> int:
        """Return how often it has failed in a row."""
        return self._failures

    @property
    def crash_loop(self) -> bool:
        """Tell whether it fails again and again, also between two failures."""
        return self._failures >= CRASH_LOOP_FAILURES

    @property
    def retry_in_s(self) -> float:
        """Return the seconds until it is started again; 0 where it need not be."""
        return max(self._start_at - self._now, 0.0) if self.state is State.STOPPED else 0.0

    def request_restart(self) -> None:
        """Give up an engine that does not end its work; one of ours is started anew. Any thread may call this."""
        self._condemned = True

    def suspect(self) -> None:
        """Doubt a ready engine, because a call to it broke off: not ready until it answers again."""
        if self.state is State.READY:
            self._suspected = True
            self.state = State.LOADING

    def stop(self) -> None:
        """Stop the engine, if it is ours."""
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
        if self._child is not None and listening(self.engine.url):
            # Some engines share a port without a word, and each gets half of the calls.
            self._mark_failed(now, "another process holds the engine's port")
        elif self._child is not None:
            self._guarded(self._child.start, now)

    def _guarded(self, action: Callable[[], None], now: float) -> None:
        try:
            action()
        except OSError as error:
            self._mark_failed(now, "engine cannot be started", error.strerror or "input or output failed")

    def _look_after_load(self, now: float) -> None:
        health = self.engine.health()
        if health is Health.HEALTHY:
            self._promote(now)
        elif self._child is None or health is Health.UNAUTHORIZED:
            self._tell(TROUBLES.get(health, ""))

    def _tell(self, trouble: str) -> None:
        """Take note of what keeps a living engine from being ready; the log has it once."""
        if trouble and trouble != self.trouble:
            logger.error(trouble, extra={"engine": self.engine.name})
        self.trouble = trouble

    def _promote(self, now: float) -> None:
        try:
            self.info = self.engine.describe()
        except EngineUnauthorized:
            self._tell(LOCKED)
            return
        except EngineLost:
            return
        self.state = State.READY
        if self._started_at is not None:
            # Not when it was only doubted.
            self.load_s, self._started_at = now - self._started_at, None
        self._suspected = False
        self.trouble = ""
        self._ready_at = self._well_at = now
        self._probe_at, self._failed_probes = now + HEALTH_INTERVAL_S, 0
        self._describe_at = now + DESCRIBE_INTERVAL_S
        logger.info("engine ready", extra={"engine": self.engine.name, "slots": self.info.slots})

    def _watch(self, now: float) -> None:
        self._probe_at = now + HEALTH_INTERVAL_S
        health = self.engine.health()
        if health is Health.HEALTHY:
            self._failed_probes, self._well_at = 0, now
            if self.state is State.READY:
                self._look_closer(now)
            else:
                self._promote(now)
            return
        if health is Health.UNRESPONSIVE and now - self._well_at < self.engine.patience_s and self.busy():
            # The question waits behind the render.
            return
        self._failed_probes += 1
        trouble = TROUBLES.get(health, SILENT)
        if self._failed_probes >= MAX_FAILED_PROBES:
            self._mark_failed(now, trouble)
        elif health is Health.UNRESPONSIVE:
            self.state = State.STUCK
            self._tell(trouble)

    def _look_closer(self, now: float) -> None:
        """Forgive a healthy engine what was, and see what is new about it."""
        if now - self._ready_at > RESET_FAILURES_AFTER_S:
            self._failures, self.last_failure = 0, ""
        if now >= self._describe_at:
            self._describe_at = now + DESCRIBE_INTERVAL_S
            with contextlib.suppress(EngineLost):
                self.describe()

    def _mark_failed(self, now: float, reason: str, detail: object = "") -> None:
        if self._child is not None:
            self._child.stop()
        backoff_s = min(FIRST_BACKOFF_S * 2**self._failures, LAST_BACKOFF_S)
        self._failures += 1
        self._start_at = now + backoff_s
        self._failed_probes = 0
        self._suspected = False
        self.last_failure = f"{reason} ({detail})" if detail else reason
        self.trouble = f"crash loop: {self.last_failure}" if self.crash_loop else self.last_failure
        self.state = State.STOPPED
        extra = {"engine": self.engine.name, "failures": self._failures, "retry_in_s": backoff_s}
        logger.error(self.trouble, extra=extra)
