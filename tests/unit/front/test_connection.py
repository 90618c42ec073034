from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import gevent.socket
import pytest

from graycat.front.connection import MAX_HEAD_BYTES, Connection
from graycat.front.guard import Guard
from graycat.front.places import HEAD, RUN, STALLED
from graycat.front.turns import WOKEN_PER_ROUND
from graycat.settings import Settings


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Any]]:
    """A connection, and its client's end."""
    guard = Guard(Settings())
    ours, theirs = gevent.socket.socketpair()
    connection = guard.enter("", ours.family, ours.type, ours.proto, ours.detach())
    yield connection, theirs
    guard.leave(connection)
    connection.close()
    theirs.close()


def test_a_look_at_the_connection_is_no_reading(ends) -> None:
    connection, client = ends
    client.send(b"abc")
    assert connection.recv(1, gevent.socket.MSG_PEEK) == b"a"
    assert (connection.state, connection.head_bytes) == (HEAD, 0)
    assert connection.recv(10) == b"abc"
    assert connection.head_bytes == 3


def test_all_is_sent_however_the_client_reads(ends) -> None:
    connection, client = ends
    connection.guard.begin_request(connection)
    data = bytes(range(256)) * 8000
    received = bytearray()

    def read() -> None:
        while len(received) < len(data):
            received.extend(client.recv(10_000))
            states.add(connection.state)

    states: set[str] = set()
    reader = gevent.spawn(read)
    connection.sendall(data)
    reader.join(timeout=20)
    assert bytes(received) == data
    assert STALLED in states
    assert connection.state == RUN


def test_who_asks_not_to_wait_does_not(ends) -> None:
    connection, _ = ends
    connection.setblocking(0)
    with pytest.raises(BlockingIOError):
        connection.recv(10)
    with pytest.raises(BlockingIOError):
        connection.sendall(b"x" * 10_000_000)


def test_who_waits_wakes_up_when_the_guard_cuts_it(ends) -> None:
    connection, _ = ends
    reader = gevent.spawn(connection.recv, 10)
    writer = gevent.spawn(connection.sendall, b"x" * 10_000_000)
    gevent.idle()
    connection.guard.cut(connection, "idle")
    for greenlet in (reader, writer):
        with pytest.raises(ConnectionError):
            greenlet.get(timeout=20)


def test_what_is_unsent_is_counted_and_nothing_of_who_is_gone(ends) -> None:
    connection, client = ends
    connection.send(b"x" * 1000)
    assert connection.count_unsent() >= 1000
    client.recv(10_000)
    assert connection.count_unsent() == 0
    connection.close()
    assert connection.count_unsent() == 0


def test_the_head_has_its_limit() -> None:
    assert 2 * 8190 < MAX_HEAD_BYTES <= 100 * 8190


def test_who_is_cut_while_it_waits_for_its_turn_wakes_up_before_it(ends) -> None:
    connection, client = ends
    turns = connection.guard.woken
    reader = gevent.spawn(connection.recv, 10)
    gevent.idle()
    begun = []
    for _ in range(10 * WOKEN_PER_ROUND):
        turns.call(connection.source.name, lambda: begun.append(1))
    client.send(b"x")
    connection.waiter._note_ready()
    connection.guard.cut(connection, "made room")
    with pytest.raises(ConnectionError):
        reader.get(timeout=20)
    assert len(begun) < 5 * WOKEN_PER_ROUND
