"""One reply; what a whole download makes of many of them is in test_downloads."""

from __future__ import annotations

import socket

import pytest
import requests

from graycat.engines.models import transfer
from graycat.engines.models.errors import DownloadFailed
from graycat.engines.models.transfer import RestartRequired, TransferInterrupted, check_plain_http, open_transfer
from tests.support.files import Served, gguf
from tests.support.helpers import free_port
from tests.support.servers import Handler, Seen, http_server, reply

CONTENT = gguf(100_000)


def fetch_part(
    seen: Seen, begin: int = 0, validator: str = "", size: int | None = None
) -> tuple[int, int | None, bytes]:
    """Return where a reply begins, the size that it tells, and its bytes."""
    with open_transfer(f"{seen.url}/m.gguf", {"X-Ours": "yes"}, begin, validator, size) as reply:
        return reply.offset, reply.size, b"".join(reply.chunks)


def test_a_reply_is_the_file_or_the_rest_of_it() -> None:
    with http_server({"GET /m.gguf": Served(CONTENT)}) as seen:
        assert fetch_part(seen) == (0, len(CONTENT), CONTENT)
        assert fetch_part(seen, 40_000, '"v1"') == (40_000, len(CONTENT), CONTENT[40_000:])
        assert fetch_part(seen, 40_000, '"v0"') == (0, len(CONTENT), CONTENT)
        with pytest.raises(RestartRequired):
            fetch_part(seen, len(CONTENT), '"v1"')
    assert {headers["x-ours"] for headers in seen.headers} == {"yes"}


def test_a_huge_file_is_asked_for_in_parts(monkeypatch) -> None:
    monkeypatch.setattr(transfer, "MAX_RANGE_BYTES", 40_000)
    with http_server({"GET /m.gguf": Served(CONTENT)}) as seen:
        assert fetch_part(seen, 0, "", len(CONTENT)) == (0, len(CONTENT), CONTENT[:40_000])
        assert fetch_part(seen, 40_000, '"v1"', len(CONTENT)) == (40_000, len(CONTENT), CONTENT[40_000:80_000])
        assert fetch_part(seen, 80_000, '"v1"', len(CONTENT)) == (80_000, len(CONTENT), CONTENT[80_000:])


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 0-9/100000"},
        {"Content-Range": "nonsense"},
        {"Content-Range": ""},
        {"ETag": '"v2"'},
        {"Content-Encoding": "gzip"},
    ],
)
def test_a_part_that_is_not_the_one_wanted_is_not_taken(headers: dict[str, str]) -> None:
    with (
        http_server({"GET /m.gguf": Served(CONTENT, headers=headers, heeds=False)}) as seen,
        pytest.raises(RestartRequired),
    ):
        fetch_part(seen, 40_000, '"v1"')


@pytest.mark.parametrize(("text", "seconds"), [("7", 7.0), ("86400", 120.0), ("soon", 0.0)])
def test_the_server_s_retry_after_is_respected(text: str, seconds: float) -> None:
    def busy(handler: Handler) -> None:
        handler.send_response(503)
        handler.send_header("Retry-After", text)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with http_server({"GET /m.gguf": busy}) as seen, pytest.raises(TransferInterrupted) as caught:
        fetch_part(seen)
    assert caught.value.retry_after_s == seconds


def test_an_error_about_an_unreachable_server_contains_no_address() -> None:
    port = free_port()
    with pytest.raises(TransferInterrupted) as caught, open_transfer(f"http://127.0.0.1:{port}/hush-hush", {}):
        pass
    assert str(caught.value) == "the server cannot be reached"


def test_redirects_in_circles_come_to_an_end() -> None:
    def around(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/m.gguf")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with http_server({"GET /m.gguf": around}) as seen, pytest.raises(DownloadFailed, match="circles"):
        fetch_part(seen)


@pytest.mark.parametrize("where", ["ftp://127.0.0.1/m.gguf", "file:///etc/passwd", "http://8.8.8.8/m.gguf"])
def test_a_redirect_to_what_may_not_be_asked_is_refused(where: str) -> None:
    def away(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", where)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with http_server({"GET /m.gguf": away}) as seen, pytest.raises(DownloadFailed):
        fetch_part(seen)


@pytest.mark.parametrize(("target", "refused"), [("http://127.0.0.1/m", True), ("https://a/m", False), ("/m", False)])
def test_https_is_left_for_nothing_else(target: str, refused: bool) -> None:
    response = requests.Response()
    response.status_code, response.url = 302, "https://host/m.gguf"
    response.headers["Location"] = target
    with transfer._Session() as session:
        if refused:
            with pytest.raises(DownloadFailed, match="away from https"):
                session.get_redirect_target(response)
        else:
            assert session.get_redirect_target(response) == target


def test_plain_http_to_a_public_host_is_refused(monkeypatch) -> None:
    public = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: public)
    with pytest.raises(DownloadFailed, match="anybody on the way can replace"):
        check_plain_http("http://models.example/m.gguf")
    check_plain_http("https://models.example/m.gguf")


def test_a_name_that_cannot_be_resolved_may_be_there_later(monkeypatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(TransferInterrupted, match="resolved"):
        check_plain_http("http://nas.lan/m.gguf")


def test_a_secret_goes_to_the_host_that_it_is_for_and_to_no_other() -> None:
    with http_server({"GET /m.gguf": reply(404, b"")}) as other:

        def away(handler: Handler) -> None:
            handler.send_response(302)
            handler.send_header("Location", other.url.replace("127.0.0.1", "localhost") + "/m.gguf")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        with (
            http_server({"GET /m.gguf": away}) as seen,
            pytest.raises(DownloadFailed, match="404"),
            open_transfer(f"{seen.url}/m.gguf", {"Authorization": "Bearer hush"}),
        ):
            pass
        assert seen.headers[0]["authorization"] == "Bearer hush"
        assert "authorization" not in other.headers[0]
