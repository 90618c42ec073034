from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import gevent.event
import pytest

from graycat.front import guard as guards
from graycat.front.guard import ADDRESS_FULL, FULL, RESERVE, Guard, source_name
from graycat.front.places import HEAD, IDLE, LINGER, RUN, STALLED
from graycat.metrics import web
from graycat.settings import Settings
from tests.support.fronted import GET, front, hello
from tests.support.metered import value


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def pairs() -> Iterator[list[Any]]:
    """The clients' ends of the connections of a test."""
    found: list[Any] = []
    yield found
    for end in found:
        end.close()


class House:
    """A guard on a clock of its own, with connections that are only counted."""

    def __init__(self, pairs: list[Any], **changes: Any) -> None:
        self.clock = Clock()
        self.guard = Guard(Settings(**{"trusted_addresses": "", **changes}), self.clock)
        self._pairs = pairs

    def enter(self, host: str = "10.0.0.1") -> Any:
        """Let a connection in, a second after the last; return it, or why it was refused."""
        self.clock.now += 1
        reason = self.guard.admit(host)
        if reason:
            return reason
        ours, theirs = gevent.socket.socketpair()
        self._pairs += [ours, theirs]
        connection = self.guard.enter(host, ours.family, ours.type, ours.proto, ours.detach())
        self._pairs.append(connection)
        return connection

    def run(self, host: str = "10.0.0.1") -> Any:
        """Let a connection in whose request has come."""
        connection = self.enter(host)
        if not isinstance(connection, str):
            self.guard.begin_request(connection)
        return connection


def test_the_oldest_half_open_one_of_an_address_makes_room_for_its_next(pairs) -> None:
    house = House(pairs, max_half_open_per_address=3)
    other = house.enter("10.0.0.2")
    first, *others = [house.enter() for _ in range(4)]
    assert first.cut == guards.MADE_ROOM
    assert [connection.cut for connection in (other, *others)] == [""] * 4
    assert house.guard.places.number_of(HEAD) == 4


def test_the_oldest_half_open_one_of_all_makes_room_for_the_next(pairs) -> None:
    house = House(pairs, max_half_open=3)
    found = [house.enter(f"10.0.0.{number}") for number in range(5)]
    assert [connection.cut for connection in found] == [guards.MADE_ROOM] * 2 + [""] * 3


def test_an_address_with_requests_on_all_its_connections_gets_no_more_and_others_do(pairs) -> None:
    house = House(pairs, max_connections_per_address=2)
    assert [house.run() for _ in range(3)][2] == ADDRESS_FULL
    assert house.enter("10.0.0.2").cut == ""


def test_a_connection_without_a_request_makes_room_within_its_address(pairs) -> None:
    house = House(pairs, max_connections_per_address=2)
    busy, idle = house.run(), house.run()
    house.guard.end_request(idle)
    assert house.run().cut == ""
    assert (busy.cut, idle.cut) == ("", guards.MADE_ROOM)
    assert house.run() == ADDRESS_FULL


def test_a_proxy_has_as_many_as_all_may_have(pairs) -> None:
    limits = {"max_connections_per_address": 2, "max_half_open_per_address": 1}
    house = House(pairs, trusted_addresses="10.0.0.0/24, fd00::1", **limits)
    assert [house.run().cut for _ in range(5)] == [""] * 5
    assert [house.enter("fd00::1").cut for _ in range(3)] == [""] * 3
    assert [house.run("10.0.1.1") for _ in range(3)][2] == ADDRESS_FULL


def test_when_all_have_requests_the_next_is_refused_and_counted(pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "RESERVE", 1)
    before = value(web, "graycat_http_connections_refused_total", limit=FULL)
    house = House(pairs, max_connections=2)
    assert [house.run(f"10.0.0.{number}") for number in range(4)][3] == FULL
    assert value(web, "graycat_http_connections_refused_total", limit=FULL) == before + 1
    assert RESERVE > 100


def test_who_reads_nothing_makes_room_before_anybody_is_refused(pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "RESERVE", 0)
    house = House(pairs, max_connections=2)
    busy, stalled = house.run("10.0.0.1"), house.run("10.0.0.2")
    stalled.unsent_bytes = 0
    house.guard.move(stalled, STALLED)
    assert house.run("10.0.0.3").cut == ""
    assert (busy.cut, stalled.cut) == ("", guards.MADE_ROOM)


def test_who_has_just_begun_to_stall_or_has_read_since_need_not_make_room(pairs, monkeypatch) -> None:
    monkeypatch.setattr(guards, "RESERVE", 0)
    house = House(pairs, max_connections=2)
    house.run("10.0.0.1")
    stalled = house.run("10.0.0.2")
    # It has read all of it since.
    stalled.unsent_bytes = 1000
    house.guard.move(stalled, STALLED)
    assert house.run("10.0.0.3") == FULL
    house.clock.now -= 0.5
    assert house.run("10.0.0.3") == FULL
    assert house.run("10.0.0.3").cut == ""


def test_each_state_has_its_own_deadline(pairs) -> None:
    limits = {"head_timeout_s": 10, "idle_timeout_s": 20, "write_timeout_s": 30}
    house = House(pairs, **limits)
    half, idle, stalled, busy = house.enter(), house.run(), house.run(), house.run()
    house.clock.now = 200.0
    for connection, state in ((half, HEAD), (idle, IDLE), (stalled, STALLED), (busy, RUN)):
        house.guard.move(connection, state)
    cut = {}
    for now in (205.0, 211.0, 221.0, 231.0, 10_000.0):
        house.clock.now = now
        house.guard.sweep()
        cut[now] = [connection.cut for connection in (half, idle, stalled, busy)]
    assert cut == {
        205.0: ["", "", "", ""],
        211.0: ["slow head", "", "", ""],
        221.0: ["slow head", "idle", "", ""],
        231.0: ["slow head", "idle", "slow reader", ""],
        10_000.0: ["slow head", "idle", "slow reader", ""],
    }


def test_many_that_are_overdue_at_once_are_ended_in_several_looks(pairs) -> None:
    house = House(pairs, max_half_open_per_address=1000)
    found = [house.enter() for _ in range(guards.MAX_ENDED + 5)]
    house.clock.now += 1000
    assert house.guard.sweep()
    assert sum(connection.cut != "" for connection in found) == guards.MAX_ENDED
    assert not house.guard.sweep()
    assert house.guard.places.count == 0


def test_what_is_cut_is_not_counted_and_not_twice(pairs) -> None:
    house = House(pairs)
    connection = house.enter()
    house.guard.cut(connection, "idle")
    house.guard.leave(connection)
    assert (house.guard.places.count, house.guard._sources) == (0, {})


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("", ""),
    ],
)
def test_ipv6_clients_are_counted_by_their_network(host: str, name: str) -> None:
    assert source_name(host) == name


def test_hundreds_of_half_open_connections_of_an_address_leave_room_for_its_honest_ones() -> None:
    with front(max_half_open_per_address=20) as running:
        hostile = [running.connect(GET[:-2]) for _ in range(200)]
        honest = running.connect(GET)
        assert honest.recv(65536).endswith(b"hello")
        running.wait_until(lambda: running.guard.places.number_of(HEAD) <= 20)
        assert all(running.ends(client) == b"" for client in hostile[:150])


def test_many_who_connect_at_the_same_moment_are_all_answered() -> None:
    with front(max_half_open_per_address=20, max_half_open=50) as running:
        found = [running.connect(GET) for _ in range(200)]
        assert all(client.recv(65536).endswith(b"hello") for client in found)


def test_of_those_without_a_request_the_half_open_make_room_first(pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "RESERVE", 0)
    house = House(pairs, max_connections=3)
    idle, lingering, half = house.run("10.0.0.1"), house.run("10.0.0.2"), house.enter("10.0.0.3")
    house.guard.end_request(idle)
    house.guard.move(lingering, LINGER)
    for victim in (half, lingering, idle):
        assert victim.cut == ""
        assert house.run("10.0.0.4").cut == ""
        assert victim.cut == guards.MADE_ROOM
    assert house.enter("10.0.0.5") == FULL


def test_who_is_refused_reads_why() -> None:
    go_on = gevent.event.Event()

    def waits(environ: Any, start_response: Any) -> list[bytes]:
        go_on.wait()
        return hello(environ, start_response)

    with front(waits, max_connections_per_address=2) as running:
        for _ in range(2):
            running.connect(GET)
        running.wait_until(lambda: running.guard.places.number_of(RUN) == 2)
        answer = running.ends(running.connect())
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b'"too_many_connections"' in answer
        other = running.connect(GET, host="127.0.0.2")
        go_on.set()
        assert other.recv(65536).endswith(b"hello")


def test_where_files_run_out_a_connection_without_a_request_is_closed_for_its_own(pairs) -> None:
    house = House(pairs)
    assert not house.guard.free_file()
    connection = house.enter()
    assert house.guard.free_file()
    assert connection.cut == guards.MADE_ROOM
