"""Tells the broker what runs on this machine, beside the supervisor's loop: a broker that is away delays no restart."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import redis

from graycat.broker.client import connect
from graycat.errors import BrokerUnavailable
from graycat.fleet.processes import ProcessReports, ProcessStatus
from graycat.loops.threads import GuardedThread
from graycat.loops.unexpected import guarded
from graycat.settings import Settings

#: Seconds between two reports if nothing changes.
REPORT_INTERVAL_S = 3.0
#: Seconds that the last report may take at the end. A broker that does not answer forgets the machine by itself.
STOP_TIMEOUT_S = 3.0


class ProcessReporter:
    """Writes the newest states to the broker, in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        # As in the names of its workers.
        self._machine = settings.box or socket.gethostname()
        self._client = connect(settings)
        self._reports = ProcessReports(self._client)
        self._latest: list[ProcessStatus] = []
        self._changed = threading.Event()
        self._loop = GuardedThread("process reporter", self._run)
        self._loop.start()

    def update(self, processes: list[ProcessStatus]) -> None:
        """Take the states that are reported from now on."""
        self._latest = processes
        self._changed.set()

    def stop(self) -> None:
        """Take this machine's report back. Returns when that is done, or after STOP_TIMEOUT_S."""
        self._loop.request_stop()
        self._changed.set()
        self._loop.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        while not self._loop.stop_requested:
            self._loop.rest()
            self._changed.wait(REPORT_INTERVAL_S)
            self._changed.clear()
            self._loop.beat()
            if not self._loop.stop_requested:
                with guarded("process reporter", let_through=()):
                    self._write()
        # Last, so that no report comes after it.
        with guarded("process reporter", let_through=()):
            self._remove()
        # The broker does not end while somebody is connected.
        self._client.close()

    def _write(self) -> None:
        # If the broker is away, the states are reported again in a moment; the supervisor's output has them too.
        with suppress(BrokerUnavailable, redis.ResponseError):
            self._reports.write(self._machine, self._latest)

    def _remove(self) -> None:
        with suppress(BrokerUnavailable, redis.ResponseError):
            self._reports.remove(self._machine)
