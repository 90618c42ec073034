from __future__ import annotations

import socket
import struct
from typing import Any

import pytest

from graycat.front.errors import ProxyHeaderInvalid
from graycat.front.guard import NOT_A_PROXY
from graycat.front.places import IDLE
from graycat.front.proxy_protocol import MAX_V1_BYTES, MAX_V2_BYTES, V2_SIGNATURE, ProxyHeader, parse
from graycat.metrics import web
from tests.support.fronted import GET, front
from tests.support.metered import value

V1 = b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n"


def v2(
    command: int = 0x21, family: int = 0x11, source: str = "192.0.2.7", extra: bytes = b"", length: int | None = None
) -> bytes:
    """Return a header of version 2."""
    kind = socket.AF_INET6 if family >> 4 == 2 else socket.AF_INET
    address = socket.inet_pton(kind, source)
    rest = address * 2 + struct.pack("!HH", 56324, 443) + extra
    return V2_SIGNATURE + struct.pack("!BBH", command, family, len(rest) if length is None else length) + rest


@pytest.mark.parametrize(
    ("data", "client"),
    [
        (V1, ("192.0.2.7", 56324)),
        (b"PROXY TCP6 2001:db8::7 ::1 1 65535\r\n", ("2001:db8::7", 1)),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 whatever this is\r\n", None),
        (v2(), ("192.0.2.7", 56324)),
        (v2(family=0x21, source="2001:db8::7"), ("2001:db8::7", 56324)),
        (v2(extra=b"\x04\x00\x02ab"), ("192.0.2.7", 56324)),
        (v2(command=0x20), None),
        (V2_SIGNATURE + struct.pack("!BBH", 0x20, 0x00, 0), None),
        (V2_SIGNATURE + struct.pack("!BBH", 0x21, 0x00, 0), None),
    ],
)
def test_a_header_says_whose_the_connection_is(data: bytes, client: Any) -> None:
    assert parse(data) == ProxyHeader(len(data), client)
    assert parse(data + GET) == ProxyHeader(len(data), client)
    assert [parse(data[:size]) for size in range(len(data))] == [None] * len(data)


@pytest.mark.parametrize(
    "data",
    [
        GET,
        b"PROXX",
        b"proxy TCP4 192.0.2.7 10.0.0.1 56324 443\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 56324\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443 \r\n",
        b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 1 65536\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 -1 2\r\n",
        b"PROXY TCP4 192.0.2.777 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 \xff 10.0.0.1 1 2\r\n",
        b"PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
        b"PROXY " + b"x" * MAX_V1_BYTES,
        v2(command=0x31),
        v2(command=0x22),
        v2(family=0x12),
        v2(family=0x41),
        v2(length=11),
        v2(length=MAX_V2_BYTES),
    ],
)
def test_anything_else_is_refused_and_not_waited_for(data: bytes) -> None:
    with pytest.raises(ProxyHeaderInvalid):
        parse(data)


def whoever(environ: Any, start_response: Any) -> list[bytes]:
    """Answer with the address that the application sees, and with how many bytes the body has."""
    found = f"{environ['REMOTE_ADDR']} {len(environ['wsgi.input'].read())}".encode()
    start_response("200 OK", [("Content-Length", str(len(found)))])
    return [found]


def ask(client: Any, request: bytes = GET) -> bytes:
    """Return the body of the answer to a request."""
    client.sendall(request)
    found = b""
    while True:
        data = client.recv(65536)
        assert data, found
        found += data
        head, _, body = found.partition(b"\r\n\r\n")
        if body and f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n":
            return body


@pytest.mark.parametrize("header", [V1, v2()], ids=["v1", "v2"])
def test_the_client_is_who_the_proxy_says_for_the_whole_connection(header: bytes) -> None:
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n"
    with front(whoever, for_proxies=True, trusted_addresses="127.0.0.1") as running:
        client = running.connect()
        assert ask(client, header + GET) == b"192.0.2.7 0"
        assert ask(client) == b"192.0.2.7 0"
        assert ask(client, post + b"x" * 9000) == b"192.0.2.7 9000"
        assert set(running.guard._sources) == {"192.0.2.7"}
        client.close()
        running.wait_until(lambda: running.guard.places.count == 0)
        assert running.guard._sources == {}


def test_a_header_may_come_in_pieces_and_the_request_with_it() -> None:
    with front(whoever, for_proxies=True, trusted_addresses="127.0.0.1") as running:
        client = running.connect()
        for piece in (v2()[:5], v2()[5:20], v2()[20:] + GET[:7]):
            client.sendall(piece)
            running.wait_until(lambda: all(not place.has_unread() for place in running.connections()))
        assert ask(client, GET[7:]) == b"192.0.2.7 0"


def test_a_connection_of_the_proxy_s_own_is_the_proxy_s() -> None:
    with front(whoever, for_proxies=True, trusted_addresses="127.0.0.1") as running:
        assert ask(running.connect(), b"PROXY UNKNOWN\r\n" + GET) == b"127.0.0.1 0"
        assert set(running.guard._sources) == {"127.0.0.1"}


def test_the_limits_of_an_address_are_the_client_s_and_not_the_proxy_s() -> None:
    other = V1.replace(b"192.0.2.7", b"192.0.2.8")
    limits = {"max_connections_per_address": 2, "max_half_open_per_address": 2, "trusted_addresses": "127.0.0.1"}
    with front(whoever, for_proxies=True, **limits) as running:
        busy = [running.connect(V1, b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n") for _ in range(2)]
        running.wait_until(lambda: running.guard.places.busy == len(busy))
        assert b"HTTP/1.1 429 " in running.ends(running.connect(V1 + GET))
        assert ask(running.connect(), other + GET) == b"192.0.2.8 0"
        # One that has no request makes room for the next of its address, and for nobody else's.
        silent = [running.connect(other + GET[:5]) for _ in range(2)]
        assert running.ends(silent[0]) == b""
        assert ask(running.connect(), V1.replace(b".7", b".9") + GET) == b"192.0.2.9 0"


def test_without_a_header_the_proxy_is_told() -> None:
    with front(for_proxies=True, trusted_addresses="127.0.0.1") as running:
        answer = running.ends(running.connect(GET))
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'"proxy_header_invalid"' in answer


def test_half_a_header_has_the_deadline_of_a_head() -> None:
    with front(for_proxies=True, trusted_addresses="127.0.0.1", head_timeout_s=0.1) as running:
        assert running.ends(running.connect(V1[:9])).startswith(b"HTTP/1.1 408 ")


def test_a_stranger_may_not_say_who_it_is() -> None:
    refused = value(web, "graycat_http_connections_refused_total", limit=NOT_A_PROXY)
    with front(for_proxies=True, trusted_addresses="127.0.0.1") as running:
        answer = running.ends(running.connect(V1 + GET, host="127.0.0.2"))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b'"not_a_proxy"' in answer
    assert value(web, "graycat_http_connections_refused_total", limit=NOT_A_PROXY) == refused + 1


def test_on_the_usual_port_nobody_may() -> None:
    with front(whoever, trusted_addresses="127.0.0.1") as running:
        assert b"HTTP/1.1 400 " in running.ends(running.connect(V1 + GET))


def test_an_idle_connection_stays_its_client_s() -> None:
    with front(whoever, for_proxies=True, trusted_addresses="127.0.0.1") as running:
        client = running.connect()
        ask(client, V1 + GET)
        running.wait_until(lambda: running.guard._sources["192.0.2.7"].places.number_of(IDLE) == 1)
