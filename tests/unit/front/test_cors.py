from __future__ import annotations

from typing import Any

import pytest

from graycat.front.cors import Cors, OriginFinder
from graycat.front.places import IDLE
from tests.support.fronted import GET, front

GAME, OTHER = "https://game.example", "https://other.example"
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\norigin:  https://game.example \r\nA: b\r\n"


@pytest.mark.parametrize("size", [1, 3, 50, 1000])
def test_the_origin_is_found_in_whatever_pieces_the_head_comes(size: int) -> None:
    finder = OriginFinder()
    data = HEAD.replace(b"A: b", b"A: " + b"b" * 900)
    for start in range(0, len(data), size):
        finder.look(data[start : start + size])
    assert finder.found == GAME
    finder.forget()
    assert finder.found == ""


@pytest.mark.parametrize("line", [b"Origins: x", b"X-Origin: x", b"Origin: \xff", b"Origin: a b", b"Origin:"])
def test_what_is_no_origin_is_none(line: bytes) -> None:
    finder = OriginFinder()
    finder.look(HEAD.replace(b"origin:  https://game.example ", line))
    assert finder.found == ""


def test_only_listed_origins_get_more_than_a_word_to_caches() -> None:
    cors = Cors([GAME, OTHER])
    assert dict(cors.headers(GAME))["Access-Control-Allow-Origin"] == GAME
    for stranger in ("", "null", "https://game.example.evil", "https://GAME.example", "http://game.example"):
        assert cors.headers(stranger) == [("Vary", "Origin")]
    assert cors.unread_headers() == [("Vary", "Origin")]
    assert Cors([]).headers(GAME) == []
    assert not Cors([])


def test_nobody_is_told_to_send_cookies() -> None:
    cors = Cors([GAME])
    names = {name for name, _ in cors.headers(GAME) + cors.preflight_headers(GAME) + cors.unread_headers()}
    assert "Access-Control-Allow-Credentials" not in names


def allowed(answer: bytes) -> str:
    """Return whose pages may read an answer."""
    for line in answer.partition(b"\r\n\r\n")[0].decode().split("\r\n"):
        if line.startswith("Access-Control-Allow-Origin: "):
            return line.partition(": ")[2]
    return ""


#: What a request looks like that ends before any view, and the status that it gets.
ENDINGS: list[tuple[bytes, bytes]] = [
    (HEAD + b"half a head", b"408"),
    (HEAD + b"no header\r\n\r\n", b"400"),
    (HEAD + b"Expect: what\r\n\r\n", b"417"),
    (HEAD + b"B: " + b"c" * 9000 + b"\r\n\r\n", b"431"),
]


@pytest.mark.parametrize(("request_", "status"), ENDINGS, ids=lambda value: value.decode()[-12:].strip())
def test_a_page_can_read_errors_that_come_before_any_view(request_: bytes, status: bytes) -> None:
    with front(head_timeout_s=0.2, cors_origins=f"{GAME},{OTHER}") as running:
        answer = running.ends(running.connect(request_))
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert (allowed(answer), b"\r\nVary: Origin\r\n" in answer) == (GAME, True)
        stranger = running.ends(running.connect(request_.replace(b"game.", b"evil.")))
        assert (stranger[9:12], allowed(stranger)) == (status, "")


def test_the_origin_is_each_request_s_own() -> None:
    with front(head_timeout_s=0.2, cors_origins=f"{GAME},{OTHER}") as running:
        client = running.connect(HEAD + b"Content-Length: 0\r\n\r\n")
        running.wait_until(lambda: running.guard.places.number_of(IDLE) == 1)
        assert running.connections()[0].cors_headers() == [("Vary", "Origin")]
        client.sendall(HEAD.replace(b"game.", b"other.") + b"half")
        _, slow, error = running.ends(client).partition(b"HTTP/1.1 408 ")
        assert allowed(slow + error) == OTHER


@pytest.mark.parametrize(("origins", "found"), [(GAME, GAME), (f"{GAME},{OTHER}", ""), ("", "")])
def test_who_is_refused_at_the_door_was_not_read(origins: str, found: str) -> None:
    with front(max_connections_per_address=1, cors_origins=origins) as running:
        running.connect(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
        running.wait_until(lambda: running.guard.places.busy == 1)
        answer = running.ends(running.connect())
        assert (answer[9:12], allowed(answer)) == (b"429", found)


def test_a_client_whom_a_proxy_names_is_refused_as_one_at_the_door() -> None:
    header = b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n"
    options: Any = {"for_proxies": True, "trusted_addresses": "127.0.0.1", "max_connections_per_address": 1}
    with front(cors_origins=GAME, **options) as running:
        running.connect(header, b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
        running.wait_until(lambda: running.guard.places.busy == 1)
        answer = running.ends(running.connect(header + GET))
        assert (answer[9:12], allowed(answer)) == (b"429", GAME)


def test_a_busy_process_tells_pages_too() -> None:
    def waiting(environ: Any, start_response: Any) -> list[bytes]:
        environ["wsgi.input"].read()
        start_response("200 OK", [])
        return []

    with front(waiting, max_connections=1, cors_origins=f"{GAME},{OTHER}") as running:
        running.connect(GET.replace(b"GET", b"POST")[:-2] + b"Content-Length: 9\r\n\r\n")
        running.wait_until(lambda: running.guard.places.busy == 1)
        answer = running.ends(running.connect(HEAD + b"Content-Length: 0\r\n\r\n"))
        assert (answer[9:12], allowed(answer)) == (b"503", GAME)
