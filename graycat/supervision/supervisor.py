"""The supervisor of ``graycat up``: starts all processes, restarts those that end, and stops them all when asked.

Weighed and not taken: honcho's manager stops everything when one process ends, and has no restart; circus is not
maintained any more; supervisor reads its programs from a file of its own and daemonizes; systemd is not on every
machine. Units for systemd are shipped for those who have it.
"""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from graycat.fleet.processes import ProcessStatus
from graycat.supervision.notifications import NotifySocket
from graycat.supervision.output import OutputPrinter
from graycat.supervision.process import ProcessState, SupervisedProcess
from graycat.supervision.specs import ProcessSpec
from graycat.supervision.startup import NAME, StartupConsole

#: Seconds between two looks at the processes.
STEP_INTERVAL_S = 0.1
#: Seconds between two reports if nothing changes.
REPORT_INTERVAL_S = 1.0


class ProcessSupervisor:
    """Runs processes until it is asked to stop. ``run`` must be called by the main thread."""

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        environment: Mapping[str, str],
        kill_after_s: float,
    ) -> None:
        """``kill_after_s``: how long a process gets to stop before it is killed."""
        #: Gets all states after each change, and every second.
        self.report: Callable[[list[ProcessStatus]], None] = lambda _: None
        #: Called when everything is about to stop: the broker waits for who is connected to it.
        self.before_stop: Callable[[], None] = lambda: None
        self._printer = OutputPrinter([NAME, *(spec.name for spec in specs)])
        #: What is printed of the start.
        self.console = StartupConsole(self._printer)
        self._sockets: dict[str, NotifySocket] = {}
        self._processes = [SupervisedProcess(spec, environment, self._printer.add) for spec in specs]
        self._kill_after_s = kill_after_s
        self._stop_requested = threading.Event()
        self._reported_at = 0.0

    def request_stop(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """Have everything stop (also a handler of signals)."""
        self._stop_requested.set()

    def run(self) -> None:
        """Return when everything has stopped after a request to stop, or when no process is left to run."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.request_stop)
        self._printer.say(NAME, f"starting {', '.join(process.spec.name for process in self._processes)}")
        with self._listening():
            while not self._stop_requested.is_set():
                self._step(time.monotonic())
                if all(process.state is ProcessState.DRAINED for process in self._processes):
                    return
                self._stop_requested.wait(STEP_INTERVAL_S)
            self._stop_all()

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Listen for the block to what the processes say of themselves."""
        with tempfile.TemporaryDirectory(prefix="graycat-up-", ignore_cleanup_errors=True) as folder:
            for number, process in enumerate(self._processes):
                if process.spec.tells_readiness:
                    # Not by its name: a socket's path must be short.
                    listening = NotifySocket(Path(folder) / str(number))
                    self._sockets[process.spec.name] = listening
                    process.notify_at(listening.path)
            yield
            for listening in self._sockets.values():
                listening.close()

    def _hear(self, now: float) -> None:
        for name, listening in self._sockets.items():
            for notification in listening.receive():
                self.console.take(name, notification, now)
        self.console.step(now)

    def _step(self, now: float) -> None:
        changed = False
        for process in self._processes:
            before = process.state
            if process.step(now):
                self._tell_start(process, now)
                changed = True
            if process.state is not before:
                self._tell(process, now)
                changed = True
        self._hear(now)
        if changed or now - self._reported_at >= REPORT_INTERVAL_S:
            self._reported_at = now
            self.report([process.status(now) for process in self._processes])

    def _tell_start(self, process: SupervisedProcess, now: float) -> None:
        name = process.spec.name
        if name in self._sockets:
            # What an ended process has left to say counts no more.
            self._sockets[name].receive()
            self.console.process_started(name, now)
        if process.restarts:
            self._printer.say(NAME, f"{name} started again (pid {process.pid})")
        elif name not in self._sockets:
            self._printer.say(NAME, f"{name} started (pid {process.pid})")

    def _tell(self, process: SupervisedProcess, now: float) -> None:
        name, retry_s = process.spec.name, process.retry_in_s(now)
        if process.gone:
            self.console.process_ended(name)
        if process.state is ProcessState.BACKING_OFF:
            self._printer.say(NAME, f"{name} ended ({process.last_end}), starts again in {retry_s:.1f} s")
        elif process.state is ProcessState.CRASH_LOOP:
            self._printer.say(NAME, f"{name} ends again and again ({process.last_end}), next try in {retry_s:.0f} s")
        elif process.state is ProcessState.DRAINED:
            self._printer.say(NAME, f"{name} was drained and stays away")

    def _stop_all(self) -> None:
        self._printer.show_live("")
        self._printer.say(NAME, "stopping everything")
        self.before_stop()
        deadline = time.monotonic() + self._kill_after_s
        for process in self._processes:
            process.stop()
        killed = False
        while not all(process.gone for process in self._processes):
            now = time.monotonic()
            for process in self._processes:
                process.step(now)
            if now >= deadline and not killed:
                killed = True
                for process in self._processes:
                    process.kill()
            running = [process.spec.name for process in self._processes if not process.gone]
            self._printer.show_live(f"still running: {', '.join(running)}" if running else "")
            time.sleep(STEP_INTERVAL_S / 2)
