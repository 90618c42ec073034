"""The hostile side of ``bench.hostile``, in a process of its own: it opens connections and has no good intentions.

Whatever the server closes is opened again, so many connections a second.
"""

from __future__ import annotations

import argparse
import http.client
import json
import resource
import select
import socket
import sys
import threading
import time
from collections import Counter, deque
from contextlib import suppress

HALF, UNREAD, DRIP = "half-open", "never reading", "dripping"
#: What each sends when it is connected.
OPENING = {
    HALF: b"POST /completion HTTP/1.1\r\nHost: x\r\nContent-Le",
    UNREAD: b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 10,
    DRIP: b"GET /health HTTP/1.1\r\nX-Slow: ",
}
#: Seconds between two bytes of a dripping connection.
DRIP_S = 1.0
#: Seconds of one turn, and of what may be opened in one.
TURN_S, BURST_S = 0.02, 0.1
#: Bytes of a big task's unknown field.
BIG_BYTES = 3_900_000


class Swarm:
    """Connections of one kind each, which are kept open as far as the server lets them."""

    def __init__(self, port: int, counts: dict[str, int], addresses: int, rate: float) -> None:
        self._port = port
        self._addresses = addresses
        self._rate = rate
        self._kinds: dict[int, str] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._waiting = deque(kind for kind, count in counts.items() for _ in range(count))
        self._epoll = select.epoll()
        self._opened = 0
        self.seen: Counter[str] = Counter()

    def run(self, seconds: float) -> None:
        """Open, hold and drip for so long."""
        now = began = dripped = time.monotonic()
        budget = 0.0
        while now - began < seconds:
            before, now = now, time.monotonic()
            # What it could not open in time it does not open all at once.
            budget = min(budget + self._rate * (now - before), self._rate * BURST_S)
            while budget >= 1 and self._waiting:
                budget -= 1
                self._open(self._waiting.popleft())
            for number, events in self._epoll.poll(TURN_S):
                self._handle(number, events)
            if now - dripped >= DRIP_S:
                dripped = now
                self._drip()
        self.seen["open at the end"] = len(self._sockets)

    def _open(self, kind: str) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        if kind == UNREAD:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._opened += 1
        try:
            connection.bind((f"127.0.1.{1 + self._opened % self._addresses}", 0))
            connection.connect(("127.0.0.1", self._port))
        except BlockingIOError:
            pass
        except OSError:
            self._again(kind, connection, "not opened")
            return
        number = connection.fileno()
        self._sockets[number], self._kinds[number] = connection, kind
        self._epoll.register(number, select.EPOLLOUT | select.EPOLLRDHUP)

    def _handle(self, number: int, events: int) -> None:
        connection, kind = self._sockets[number], self._kinds[number]
        if events & (select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP):
            self._close(number)
            return
        self.seen[f"{kind} opened"] += 1
        self._epoll.modify(number, select.EPOLLRDHUP)
        try:
            connection.send(OPENING[kind])
        except OSError:
            self._close(number)

    def _close(self, number: int) -> None:
        connection, kind = self._sockets.pop(number), self._kinds.pop(number)
        self._epoll.unregister(number)
        self._again(kind, connection, "closed by the server")

    def _again(self, kind: str, connection: socket.socket, why: str) -> None:
        connection.close()
        self.seen[f"{kind} {why}"] += 1
        self._waiting.append(kind)

    def _drip(self) -> None:
        for number, kind in list(self._kinds.items()):
            if kind == DRIP:
                with suppress(OSError):
                    self._sockets[number].send(b"x")


def flood(port: int, token: str, over: threading.Event, seen: Counter[str]) -> None:
    """Submit big tasks, one after the other, and cancel each at once."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    task = {"kind": "llm.completion", "input": {"prompt": "x", "n_predict": 100, "junk": "x" * BIG_BYTES}}
    body = json.dumps(task).encode()
    while not over.is_set():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30, source_address=("127.0.2.1", 0))
        try:
            connection.request("POST", "/tasks", body, headers)
            answer = connection.getresponse()
            found = json.loads(answer.read())
            seen[f"big tasks {answer.status}"] += 1
            if answer.status == 202:
                connection.request("DELETE", f"/tasks/{found['id']}", headers=headers)
                connection.getresponse().read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            seen[f"big tasks {type(error).__name__}"] += 1
        finally:
            connection.close()
        over.wait(0.1)


def main() -> int:
    """Attack for a while, and print what happened as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--addresses", type=int, default=40)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--half-open", type=int, default=5000)
    parser.add_argument("--never-reading", type=int, default=2000)
    parser.add_argument("--dripping", type=int, default=500)
    parser.add_argument("--flooders", type=int, default=2, help="callers that send big tasks and cancel them at once")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    counts = {HALF: options.half_open, UNREAD: options.never_reading, DRIP: options.dripping}
    swarm = Swarm(options.port, counts, options.addresses, options.rate)
    over = threading.Event()
    flooders = [
        threading.Thread(target=flood, args=(options.port, options.token, over, swarm.seen), daemon=True)
        for _ in range(options.flooders)
    ]
    for flooder in flooders:
        flooder.start()
    swarm.run(options.seconds)
    over.set()
    sys.stdout.write(json.dumps(swarm.seen) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
