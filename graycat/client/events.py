"""A task's events over connections that may break: each event once, in order, up to the last."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import closing
from time import monotonic, sleep
from typing import Protocol

import requests

from graycat.client.errors import UnexpectedReply, Unreachable
from graycat.client.http import HttpTransport, backoff_s, is_connection_loss, root_cause, unexpected_reply
from graycat.client.views import Event, parse_event_id

#: A connection that is silent for this many seconds is dead: the server writes a blank line every few seconds.
READ_TIMEOUT_S = 45.0


class FollowedTask(Protocol):
    """What an event stream needs of its task."""

    @property
    def done(self) -> bool:
        """Return whether the task is known to have ended."""

    def refresh(self) -> object:
        """Fetch the task's state again."""


class EventStream:
    """Reads the events of one task that come after the event ``after``. It connects again if a connection breaks."""

    def __init__(self, transport: HttpTransport, task: FollowedTask, path: str, after: str) -> None:
        self._transport = transport
        self._task = task
        self._path = path
        self._last_id = after
        #: Connections in a row that brought nothing, and when the first of them failed.
        self._failures = 0
        self._failing_since = 0.0

    def events(self) -> Iterator[Event]:
        """Yield the events up to the task's last. Raises ApiError, Unreachable, UnexpectedReply."""
        while True:
            # A task that had ended before the connection began sends all its events over this one connection.
            was_done = self._task.done
            broken: requests.RequestException | None = None
            try:
                finished = yield from self._read_connection()
            except requests.RequestException as error:
                finished = False
                broken = error

            if finished or (was_done and broken is None):
                return
            self._prepare_reconnect(broken)

    def _read_connection(self) -> Generator[Event, None, bool]:
        """Yield the new events of one connection; return whether the task has no more of them."""
        with closing(self._connect()) as response:
            if response.status_code == 204:
                return True
            for event in self._new_events(response):
                yield event
                if event.last:
                    return True
        return False

    def _connect(self) -> requests.Response:
        headers = {"Accept-Encoding": "identity"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        query = {"format": "ndjson"}
        return self._transport.request(
            "GET", self._path, read_s=READ_TIMEOUT_S, params=query, headers=headers, stream=True
        )

    def _prepare_reconnect(self, broken: requests.RequestException | None) -> None:
        """Pause before the next connection. Raises Unreachable if connections have brought nothing for too long."""
        url = self._transport.url
        if broken is not None and not is_connection_loss(broken):
            raise UnexpectedReply(f"{url}: {broken}") from broken

        if not self._failures:
            self._failing_since = monotonic()
        if monotonic() - self._failing_since > self._transport.patience_s:
            reason = "no event comes"
            if broken is not None:
                reason = root_cause(broken)
            raise Unreachable(f"{url} breaks every connection: {reason}") from broken

        sleep(backoff_s(self._failures))
        self._failures += 1
        self._task.refresh()

    def _new_events(self, response: requests.Response) -> Iterator[Event]:
        """Yield the events that were not seen before, up to one that is not the task's."""
        for line in iter_lines(response):
            self._failures = 0
            if not line.strip():
                continue
            try:
                event = Event.from_json(json.loads(line))
            except ValueError:
                raise unexpected_reply(self._transport.url) from None
            if not event.id:
                # The server speaks for itself, for example because it stops. The task goes on.
                return
            if not self._last_id or parse_event_id(event.id) > parse_event_id(self._last_id):
                self._last_id = event.id
                yield event


def iter_lines(response: requests.Response) -> Iterator[bytes]:
    """Yield a body's lines as they come. A part of a line, left by a broken connection, is dropped."""
    # Without chunks (an old proxy), a read of more than one byte would wait until all of them are there.
    size = None if getattr(response.raw, "chunked", False) else 1
    rest = b""
    for data in response.iter_content(size):
        *complete, rest = (rest + data).split(b"\n")
        yield from complete
