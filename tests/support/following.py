"""A reader of a task's server-sent events that loses its connection and comes back, as the standard says."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.support.unity import BrokenAnswer, ReadBuffer, read_head, read_pieces

#: The last events of a task; only those that have an id are the task's own.
ENDS = ("result", "error", "cancelled")
#: Seconds between two attempts to connect, as the Python client waits: half of it at least, doubled after each failure.
FIRST_PAUSE_S, MAX_PAUSE_S = 0.2, 2.0
BUFFER_BYTES = 65536


@dataclass
class Following:
    """What a reader has of one task, over all its connections.

    ``events``: id, kind and data as they came. ``refused``: attempts that were answered with an error, by status.
    ``own``: events of the web process itself, which have no id.
    """

    events: list[tuple[str, str, str]] = field(default_factory=list)
    own: list[str] = field(default_factory=list)
    connections: int = 0
    refused: list[int] = field(default_factory=list)
    #: When each event came (monotonic clock).
    arrivals: list[float] = field(default_factory=list)

    @property
    def last_id(self) -> str:
        """Return the id that it goes on behind; '' for none."""
        return self.events[-1][0] if self.events else ""

    @property
    def is_over(self) -> bool:
        """Return whether it has the task's last event."""
        return bool(self.events) and self.events[-1][1] in ENDS

    @property
    def kinds(self) -> list[str]:
        """Return the kinds of its events, without chunks."""
        return [kind for _, kind, _ in self.events if kind != "chunk"]

    @property
    def text(self) -> str:
        """Return the text of the completion that it has put together; what ``restarted`` makes void is left out."""
        text = ""
        for _, kind, data in self.events:
            if kind == "restarted":
                text = ""
            elif kind == "chunk":
                text += json.loads(data)["content"]
        return text

    def longest_gap_s(self, since: float) -> float:
        """Return the longest time between two events of which the second came after a moment (monotonic clock)."""
        pairs = zip(self.arrivals, self.arrivals[1:], strict=False)
        return max((later - earlier for earlier, later in pairs if later > since), default=0.0)


class Follower:
    """Reads a task at one of several addresses; at each failure it goes on at the next one behind its last event."""

    def __init__(self, urls: Sequence[str], path: str, token: str, *, silence_s: float = 30.0) -> None:
        """``silence_s``: a connection on which nothing comes for so long is given up."""
        self.seen = Following()
        self._urls = list(urls)
        self._path = path
        self._token = token
        self._silence_s = silence_s

    def read(self, within_s: float, until: Callable[[Following], bool] = lambda seen: seen.is_over) -> Following:
        """Read until a condition holds, by default to the task's end. Raises AssertionError if that takes too long."""
        deadline, failures = time.monotonic() + within_s, 0
        while not until(self.seen):
            assert time.monotonic() < deadline, f"not so within {within_s:g} s: {self.seen.kinds} {self.seen.refused}"
            connections = self.seen.connections
            try:
                if not self._read_connection(until):
                    return self.seen
            except (OSError, BrokenAnswer, requests.RequestException):
                # Lost: at the next address, behind the last event.
                self._urls.append(self._urls.pop(0))
            failures = 0 if self.seen.connections > connections else failures + 1
            pause_s = min(FIRST_PAUSE_S * 2**failures, MAX_PAUSE_S)
            threading.Event().wait(pause_s * random.uniform(0.5, 1))  # noqa: S311 (nobody gains by guessing it)
        return self.seen

    def _read_connection(self, until: Callable[[Following], bool]) -> bool:
        """Read one connection as far as it goes; return False if the task has no more."""
        address = urlsplit(self._urls[0])
        headers = {"Host": address.netloc, "Authorization": f"Bearer {self._token}", "Accept": "text/event-stream"}
        if self.seen.last_id:
            headers["Last-Event-ID"] = self.seen.last_id
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection = socket.create_connection((str(address.hostname), address.port or 80), timeout=self._silence_s)
        with connection:
            connection.sendall(f"GET {self._path}/events HTTP/1.1\r\n{head}\r\n".encode())
            buffer = ReadBuffer(connection, BUFFER_BYTES)
            status, headers = read_head(buffer)
            if status == 204:
                return False
            if status != 200:
                self.seen.refused.append(status)
                assert status in (502, 503), f"refused with {status}"
                return True
            self.seen.connections += 1
            for block in _blocks(buffer, headers):
                self._take(block)
                if until(self.seen):
                    break
        return True

    def _take(self, block: str) -> None:
        """Take one event. Those of a stream that begins too early would be there twice: nothing is left out here."""
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if "data" not in fields:
            return
        if "id" not in fields:
            self.seen.own.append(fields["data"])
            return
        self.seen.events.append((fields["id"], fields["event"], fields["data"]))
        self.seen.arrivals.append(time.monotonic())


def _blocks(buffer: ReadBuffer, headers: dict[str, str]) -> Iterator[str]:
    """Yield the whole blocks of a stream; the half of one that breaks off is dropped, as the standard says."""
    rest = b""
    for _, piece in read_pieces(buffer, headers):
        *whole, rest = (rest + piece).split(b"\n\n")
        for block in whole:
            yield block.decode()


def on_record(broker: Any, task_id: str) -> list[tuple[str, str]]:
    """Return ids and kinds of all events that the broker has of a task, in order."""
    return [(event_id, fields["kind"]) for event_id, fields in broker.xrange(f"graycat:events:{task_id}")]


def text_on_record(broker: Any, task_id: str) -> str:
    """Return the text of the completion that a task's engine has made, by what its worker has written."""
    chunks = [fields["data"] for _, fields in broker.xrange(f"graycat:events:{task_id}") if fields["kind"] == "chunk"]
    return "".join(json.loads(chunk.removeprefix("data: "))["content"] for chunk in chunks)
