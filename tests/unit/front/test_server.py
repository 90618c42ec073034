from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from typing import Any

import pytest

from graycat.front.errors import TooManyConnections
from graycat.front.places import HEAD
from graycat.front.replies import error_reply
from graycat.front.server import MAX_ACCEPTED, host_of, refuse
from tests.support.fronted import GET, front
from tests.support.rounds import each_look, largest_step


class Exhausted:
    """A listener without file descriptors, the first time that it is asked."""

    def __init__(self, listener: Any) -> None:
        self._listener = listener
        self.asked = 0

    def _accept(self) -> Any:
        self.asked += 1
        if self.asked == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return self._listener._accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)


def test_without_file_descriptors_a_half_open_connection_is_closed_for_the_next() -> None:
    with front() as running:
        half = running.connect(GET[:-2])
        running.wait_until(lambda: running.guard.places.number_of(HEAD) == 1)
        server: Any = running.server
        server.socket = Exhausted(server.socket)
        assert running.connect(GET).recv(65536).endswith(b"hello")
        assert running.ends(half) == b""


def test_many_that_connect_at_once_are_taken_a_few_between_two_looks() -> None:
    with front(max_half_open_per_address=300) as running, ExitStack() as clients:
        with each_look(lambda: running.guard.places.count) as seen:
            for _ in range(200):
                client = clients.enter_context(socket.socket())
                client.connect(("127.0.0.1", running.port))
            running.wait_until(lambda: running.guard.places.count == 200)
        assert largest_step(seen) <= 2 * MAX_ACCEPTED


def test_a_connection_that_is_refused_is_closed_whatever_its_client_does() -> None:
    reply = error_reply(TooManyConnections())
    ours, theirs = socket.socketpair()
    with theirs:
        refuse(ours.detach(), reply)
        assert theirs.recv(65536) == reply
        assert theirs.recv(65536) == b""
    ours, theirs = socket.socketpair()
    theirs.close()
    number = ours.detach()
    refuse(number, reply)
    with pytest.raises(OSError, match="Bad file descriptor"):
        socket.socket(fileno=number)


@pytest.mark.parametrize(
    ("address", "host"), [(("10.0.0.1", 7), "10.0.0.1"), (("::1", 7, 0, 0), "::1"), ("", ""), (b"/run/web", "")]
)
def test_the_host_of_an_address(address: Any, host: str) -> None:
    assert host_of(address) == host
