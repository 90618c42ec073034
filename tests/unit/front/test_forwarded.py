from __future__ import annotations

from typing import Any

import pytest

from graycat.front.forwarded import Forwarded
from graycat.front.turns import Turns
from tests.support.fronted import GET, front

PROXIES = "127.0.0.1, 10.0.0.0/8, fd00::/8"


@pytest.mark.parametrize(
    ("peer", "values", "client"),
    [
        ("127.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("127.0.0.1", ["198.51.100.1, 192.0.2.7"], "192.0.2.7"),
        ("127.0.0.1", ["198.51.100.1", "192.0.2.7,10.0.0.3"], "192.0.2.7"),
        ("fd00::5", ["2001:db8::7"], "2001:db8::7"),
        ("192.0.2.9", ["192.0.2.7"], "192.0.2.9"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["10.0.0.3"], "127.0.0.1"),
        ("127.0.0.1", ["192.0.2.7, unknown"], "127.0.0.1"),
        ("127.0.0.1", ["192.0.2.7:80"], "127.0.0.1"),
        ("127.0.0.1", [""], "127.0.0.1"),
        ("", ["192.0.2.7"], ""),
    ],
)
def test_the_last_address_that_is_no_proxy_s_is_the_client(peer: str, values: list[str], client: str) -> None:
    headers = [("HOST", "a"), *(("X-FORWARDED-FOR", value) for value in values)]
    assert Forwarded(PROXIES).find_client(peer, headers) == client


def test_by_default_nobody_is_believed() -> None:
    assert Forwarded("").find_client("127.0.0.1", [("X-FORWARDED-FOR", "192.0.2.7")]) == "127.0.0.1"


@pytest.mark.parametrize(("trusted", "name"), [("127.0.0.1", "2001:db8::/64"), ("", "127.0.0.1")])
def test_a_request_has_the_turn_of_whom_its_proxy_speaks(
    monkeypatch: pytest.MonkeyPatch, trusted: str, name: str
) -> None:
    waited: list[str] = []
    monkeypatch.setattr(Turns, "wait", lambda _, source, **__: waited.append(source))
    with front(forwarded_from=trusted) as running:
        client = running.connect(GET[:-2] + b"X-Forwarded-For: 2001:db8::7\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
    assert waited == [name]


def scheme(environ: Any, start_response: Any) -> list[bytes]:
    """Answer with what the application takes for its own address."""
    found = f"{environ['wsgi.url_scheme']} {environ['SCRIPT_NAME']}{environ['PATH_INFO']}".encode()
    start_response("200 OK", [("Content-Length", str(len(found)))])
    return [found]


@pytest.mark.parametrize(("trusted", "found"), [("127.0.0.1", b"https /a/b"), ("", b"http /a/b")])
def test_a_scheme_is_believed_and_a_path_is_not(trusted: str, found: bytes) -> None:
    headers = b"X-Forwarded-Proto: https\r\nSCRIPT_NAME: /a\r\nX-Forwarded-Ssl: off\r\n"
    with front(scheme, forwarded_from=trusted) as running:
        client = running.connect(b"GET /a/b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + headers + b"\r\n")
        assert running.ends(client).endswith(b"\r\n\r\n" + found)
