"""A task's events over connections that may break: each event once, in order, to the last."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from time import monotonic, sleep
from typing import TYPE_CHECKING

import requests

from graycat.client.calls import Caller, is_lost, pause_of, reason_of
from graycat.client.errors import UnexpectedReply, Unreachable
from graycat.client.views import Event, place_of

if TYPE_CHECKING:
    from graycat.client.task import Task

#: A connection that is silent for this many seconds is dead: the server writes a blank line every few.
SILENT_S = 45.0


class Feed:
    """Reads the events of one task from behind the event ``after`` on, connecting again where it has to."""

    def __init__(self, caller: Caller, task: Task, path: str, after: str) -> None:
        self._caller = caller
        self._task = task
        self._path = path
        self._last = after
        #: Tries in a row that brought nothing, and when the first of them failed.
        self._failures = 0
        self._failing_since = 0.0

    def events(self) -> Iterator[Event]:
        """Yield the events up to the task's last. Raises ApiError, Unreachable."""
        while True:
            # What a task has to tell that ended before the connection began, this connection tells.
            over = self._task.done
            broken: requests.RequestException | None = None
            with closing(self._connect()) as response:
                if response.status_code == 204:
                    return
                try:
                    for event in self._new(response):
                        yield event
                        if event.last:
                            return
                except requests.RequestException as error:
                    broken = error
            if over and broken is None:
                return
            self._again(broken)

    def _connect(self) -> requests.Response:
        headers = {"Accept-Encoding": "identity"} | ({"Last-Event-ID": self._last} if self._last else {})
        wanted = {"format": "ndjson"}
        return self._caller.call("GET", self._path, read_s=SILENT_S, params=wanted, headers=headers, stream=True)

    def _again(self, broken: requests.RequestException | None) -> None:
        """Make ready for another connection, unless too many brought nothing. Raises Unreachable."""
        if broken is not None and not is_lost(broken):
            raise UnexpectedReply(f"{self._caller.url}: {broken}") from broken
        if not self._failures:
            self._failing_since = monotonic()
        if monotonic() - self._failing_since > self._caller.patience_s:
            reason = "nothing comes" if broken is None else reason_of(broken)
            raise Unreachable(f"{self._caller.url} breaks every connection: {reason}") from broken
        sleep(pause_of(self._failures))
        self._failures += 1
        self._task.refresh()

    def _new(self, response: requests.Response) -> Iterator[Event]:
        """Yield the events that were not there before, as long as the server speaks for the task."""
        for line in lines(response):
            self._failures = 0
            if not line.strip():
                continue
            try:
                event = Event.from_json(json.loads(line))
            except ValueError:
                raise UnexpectedReply(f"{self._caller.url} did not answer as graycat does") from None
            if not event.id:
                # The server's own, such as that it stops: the task goes on.
                return
            if not self._last or place_of(event.id) > place_of(self._last):
                self._last = event.id
                yield event


def lines(response: requests.Response) -> Iterator[bytes]:
    """Yield a body's lines as they come; what a broken connection left of one is none."""
    # Without chunks (an old proxy) a read of more than a byte waits until all of them are there.
    size = None if getattr(response.raw, "chunked", False) else 1
    rest = b""
    for data in response.iter_content(size):
        *whole, rest = (rest + data).split(b"\n")
        yield from whole
