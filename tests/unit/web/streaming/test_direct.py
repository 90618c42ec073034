from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from graycat.web.streaming.direct import DirectWriter, direct_writer_for
from graycat.web.streaming.formats import LLAMACPP
from tests.support.direct_writing import FEW, MANY
from tests.support.helpers import outcome_of, run

ENVIRON = {"SERVER_PROTOCOL": "HTTP/1.1", "REQUEST_METHOD": "POST"}


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return a server's and a client's end; the server's does not block, as under gevent."""
    server, client = socket.socketpair()
    server.setblocking(False)
    with server, client:
        yield server, client


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """Return what a process under gevent saw; see tests/support/direct_writing.py."""
    result = run([sys.executable, "-W", "error", "-m", "gevent.monkey", "--module", "tests.support.direct_writing"])
    assert result.returncode == 0, result.stderr
    outcome: dict[str, Any] = json.loads(result.stdout)
    return outcome


def test_an_event_is_one_chunk_in_the_stream_s_format(ends) -> None:
    server, client = ends
    event = b'data: {"content":"a data: b"}\n\n'
    assert DirectWriter(server, LLAMACPP.encode_event).write(event)
    written = LLAMACPP.encode_event(event)
    assert client.recv(4096) == b"%X\r\n%b\r\n" % (len(written), written)


def test_what_a_full_socket_does_not_take_is_sent_by_flush(ends) -> None:
    server, client = ends
    writer, large = DirectWriter(server, lambda event: event), b"data: " + b"x" * 4_000_000 + b"\n\n"
    wanted = b"%X\r\n%b\r\n" % (len(large), large)
    assert writer.write(large)
    assert 0 < len(writer.unsent) < len(wanted)
    assert writer.write(b"data: behind\n\n") is False
    reading = outcome_of(lambda: client.recv(len(wanted), socket.MSG_WAITALL))
    server.setblocking(True)
    assert (writer.flush(), writer.flush()) == (True, False)
    assert reading() == wanted


def test_a_full_socket_takes_nothing(ends) -> None:
    server, _ = ends
    with suppress(BlockingIOError):
        while server.send(b"x" * 65536):
            pass
    writer = DirectWriter(server, LLAMACPP.encode_event)
    assert (writer.write(FEW[0]), writer.unsent) == (False, b"")


@pytest.mark.parametrize("gone", ["server", "client"])
def test_without_its_client_nothing_is_sent(ends, gone: str) -> None:
    server, client = ends
    {"server": server, "client": client}[gone].close()
    assert DirectWriter(server, LLAMACPP.encode_event).write(FEW[0]) is False


@pytest.mark.parametrize(
    "environ",
    [
        ENVIRON,
        ENVIRON | {"gunicorn.socket": object(), "SERVER_PROTOCOL": "HTTP/1.0"},
        ENVIRON | {"gunicorn.socket": object(), "REQUEST_METHOD": "HEAD"},
    ],
)
def test_a_body_that_gunicorn_does_not_chunk_goes_through_the_server(environ: dict[str, Any]) -> None:
    assert direct_writer_for(environ, LLAMACPP.encode_event) is None


def test_a_body_that_gunicorn_chunks_has_a_direct_writer(ends) -> None:
    assert direct_writer_for(ENVIRON | {"gunicorn.socket": ends[0]}, LLAMACPP.encode_event) is not None


def test_a_client_that_reads_gets_every_event_and_the_server_writes_few_of_them(seen: dict[str, Any]) -> None:
    assert seen["reader"]["whole"]
    assert seen["reader"]["by the server"] < len(MANY) / 2


@pytest.mark.parametrize("case", ["late", "late error"])
def test_a_client_that_reads_late_gets_every_event_in_order(seen: dict[str, Any], case: str) -> None:
    assert seen[case]


def test_without_a_direct_writer_the_server_writes_every_event(seen: dict[str, Any]) -> None:
    assert seen["without"] == len(FEW)


def test_keepalives_are_sent_only_while_no_chunks_come(seen: dict[str, Any]) -> None:
    busy, idle = seen["keepalives"]
    assert (busy, idle > 0) == (0, True)


def test_a_disconnected_client_is_found_by_the_server(seen: dict[str, Any]) -> None:
    assert seen["disconnected"] in ("BrokenPipeError", "ConnectionResetError")
