"""Hundreds of hostile connections at a real ``graycat web``, with its time-outs made short."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import requests

from bench.fake import fake_engine
from tests.support.processes import SLACK_S, eventually
from tests.support.stack import REQUEST_S, Client, Stack, running
from tests.support.unity import V3Reader, send_post

LIMITS = {
    "GRAYCAT_MAX_CONNECTIONS": "300",
    "GRAYCAT_MAX_CONNECTIONS_PER_ADDRESS": "100",
    "GRAYCAT_MAX_HALF_OPEN": "100",
    "GRAYCAT_MAX_HALF_OPEN_PER_ADDRESS": "50",
    "GRAYCAT_HEAD_TIMEOUT_S": "3",
    "GRAYCAT_BODY_TIMEOUT_S": "3",
    "GRAYCAT_WRITE_TIMEOUT_S": "3",
    "GRAYCAT_IDLE_TIMEOUT_S": "3",
}
#: Hostile connections of a kind.
COUNT = 300
TOKENS = 60
HALF = b"POST /completion HTTP/1.1\r\nHost: x\r\nContent-Le"
STALLING = b"POST /tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nContent-Length: 1000\r\n\r\n{"
#: Ten at once, and no answer of them is read.
UNREAD = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 10


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("front")
    with (
        fake_engine("--interval", "0.1") as engine,
        running(Stack(home, env={"LLAMA_SERVER_URL": engine} | LIMITS)) as stack,
    ):
        yield stack


class Hostiles:
    """Connections that send something and then nothing, and read nothing."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open = ExitStack()

    def __enter__(self) -> Hostiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def send(self, data: bytes, count: int, addresses: int) -> list[socket.socket]:
        """Open connections from so many addresses of this machine."""
        found = []
        for number in range(count):
            connection = self._open.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(10)
            connection.bind((f"127.0.0.{2 + number % addresses}", 0))
            connection.connect(("127.0.0.1", self._port))
            # Its place may be another's by now.
            try:
                connection.sendall(data)
            except ConnectionError:
                continue
            found.append(connection)
        return found


def health_s(stack: Stack) -> float:
    """Return how long a new connection waits for /health."""
    began = time.monotonic()
    assert requests.get(f"{stack.url}/health", timeout=REQUEST_S).status_code == 200
    return time.monotonic() - began


def metric(stack: Stack, name: str) -> float:
    """Return the sum of a metric over its labels."""
    token = (stack.home / "metrics-token").read_text().strip()
    text = requests.get(f"{stack.url}/metrics", headers={"Authorization": f"Bearer {token}"}, timeout=REQUEST_S).text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


@pytest.mark.parametrize("addresses", [1, 20])
@pytest.mark.parametrize("kind", ["half", "stalling", "unread"])
def test_an_honest_stream_and_health_do_not_notice(attacked: Stack, kind: str, addresses: int) -> None:
    data = {"half": HALF, "stalling": STALLING % attacked.token.encode(), "unread": UNREAD}[kind]
    body = {"prompt": "x", "n_predict": TOKENS, "stream": True}
    answers = []

    def play() -> None:
        with send_post(attacked.url, "/completion", body, attacked.token) as connection:
            answers.append(V3Reader().read(connection))

    cut = metric(attacked, "graycat_http_connections_cut_total")
    game = threading.Thread(target=play)
    game.start()
    # Until its head has come, it is one of the half-open connections, of which the oldest go.
    eventually(lambda: attacked.live() != [], SLACK_S)
    with Hostiles(attacked.port) as hostiles:
        hostiles.send(data, COUNT, addresses)
        times = [health_s(attacked) for _ in range(20)]
        game.join(REQUEST_S)
        # One or two may have waited for a core.
        assert sorted(times)[-3] < 2.0, times
        # Nobody keeps a place: all that is left is our own.
        eventually(lambda: metric(attacked, "graycat_http_connections{") <= 5, SLACK_S)
        assert metric(attacked, "graycat_http_connections_cut_total") > cut
    assert [len(answer.tokens) for answer in answers] == [TOKENS]


def test_an_address_over_its_limit_is_refused_and_the_others_are_not(attacked: Stack) -> None:
    stream = b"POST /completion HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
    body = b'{"prompt": "x", "n_predict": 1000, "stream": true}'
    with Hostiles(attacked.port) as hostiles:
        hostiles.send(stream % (attacked.token.encode(), len(body), body), 100, 1)
        eventually(lambda: metric(attacked, 'graycat_http_connections{state="run"}') >= 100, SLACK_S)
        (refused,) = hostiles.send(b"", 1, 1)
        assert refused.recv(1000).startswith(b"HTTP/1.1 429 ")
        assert min(health_s(attacked) for _ in range(3)) < 2.0
    # All of them have hung up.
    eventually(lambda: attacked.live() == [], SLACK_S)


def test_the_log_of_an_attack_is_short_and_names_nobody(attacked: Stack) -> None:
    lines = [line for line in attacked.output.splitlines() if "graycat.front" in line]
    assert 0 < len(lines) < 200
    assert not [line for line in lines if "127.0.0." in line]
    assert not [line for line in attacked.output.splitlines() if "Traceback" in line or "unexpected error" in line]


def test_a_game_that_comes_back_after_an_idle_while_connects_again(attacked: Stack) -> None:
    client = Client(attacked.url, attacked.token)
    with client.session:
        assert client.get("/v1/models").ok
        idle = metric(attacked, 'graycat_http_connections_cut_total{reason="idle"}')
        eventually(lambda: metric(attacked, 'graycat_http_connections_cut_total{reason="idle"}') > idle, SLACK_S)
        assert client.get("/v1/models").ok
