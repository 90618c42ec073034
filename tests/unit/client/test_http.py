from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from graycat.client.errors import (
    EngineLost,
    InvalidArgument,
    LimitExceeded,
    QueueFull,
    RequestError,
    ServerError,
    UnexpectedReply,
    Unreachable,
)
from graycat.client.http import MAX_PAUSE_S, HttpTransport, backoff_s, parse_object, parse_retry_after
from tests.support.helpers import free_port
from tests.support.hooks import Certificate
from tests.support.scripted import error, respond_in_turn, respond_with
from tests.support.servers import Answer, drop, http_server

FINE = respond_with(200, {"fine": True})
HTML = respond_with(502, b"<h1>Bad Gateway</h1>")


@pytest.fixture
def send() -> Callable[..., Any]:
    """Return a function that sends a request to a server with these answers, one after the other."""

    def send_request(
        *answers: Answer, patience_s: float = 5.0, seen: list[dict[str, str]] | None = None
    ) -> dict[str, Any]:
        with http_server({"GET /": respond_in_turn(*answers, seen=seen)}) as server:
            transport = HttpTransport(server.url, "s3cret", patience_s)
            try:
                return parse_object(transport.request("GET", "/"))
            finally:
                transport.close()

    return send_request


def test_a_request_carries_the_api_token(send) -> None:
    seen: list[dict[str, str]] = []
    assert send(FINE, seen=seen) == {"fine": True}
    assert seen[0]["Authorization"] == "Bearer s3cret"
    assert seen[0]["User-Agent"].startswith("graycat-client/")


@pytest.mark.parametrize(
    "problem", [drop, HTML, error(503, "broker_unavailable"), error(429, "limit", Retry_After="0")]
)
def test_a_failure_that_may_pass_is_retried(send, pauses, problem: Answer) -> None:
    assert send(problem, problem, FINE) == {"fine": True}
    assert len(pauses) == 2


def test_a_retry_waits_as_long_as_the_server_says(send, pauses) -> None:
    assert send(error(503, "queue_full", Retry_After="3"), FINE) == {"fine": True}
    assert pauses == [3.0]


def test_a_retry_after_past_the_patience_is_raised_at_once(send, pauses) -> None:
    with pytest.raises(QueueFull) as caught:
        send(error(503, "queue_full", Retry_After="30"), FINE)
    assert (caught.value.status, caught.value.retry_after_s, str(caught.value)) == (503, 30.0, "it is queue_full")
    assert pauses == []


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (error(400, "invalid_request_error"), RequestError),
        (error(502, "engine_lost"), EngineLost),
        (error(500, "server_error"), ServerError),
        # Without a time, the request itself asks for too much.
        (error(429, "limit_exceeded"), LimitExceeded),
        (respond_with(307, b"", Location="https://elsewhere.example/"), UnexpectedReply),
        (respond_with(200, b"<h1>It works!</h1>"), UnexpectedReply),
        (respond_with(200, [1, 2]), UnexpectedReply),
    ],
)
def test_a_failure_that_would_repeat_is_raised_at_once(
    send, pauses, problem: Answer, expected: type[Exception]
) -> None:
    with pytest.raises(expected):
        send(problem, FINE)
    assert pauses == []


def test_an_unreachable_server_is_named_by_its_address_without_the_token() -> None:
    port = free_port()
    transport = HttpTransport(f"http://127.0.0.1:{port}/", "s3cret", 0)
    with pytest.raises(Unreachable, match=f"^http://127.0.0.1:{port} cannot be reached: .*refused") as caught:
        transport.request("GET", "/")
    assert "s3cret" not in str(caught.value)


def test_a_netrc_does_not_replace_the_api_token(send, tmp_path, monkeypatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password mine\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    seen: list[dict[str, str]] = []
    send(FINE, seen=seen)
    assert seen[0]["Authorization"] == "Bearer s3cret"


@pytest.mark.parametrize(("url", "token"), [("box:8000", ""), ("ftp://box", ""), ("http://", ""), ("http://b", "a\nb")])
def test_an_invalid_address_or_token_is_refused(url: str, token: str) -> None:
    with pytest.raises(InvalidArgument):
        HttpTransport(url, token, 1)


def test_pauses_grow_up_to_a_maximum_and_are_random() -> None:
    assert max(backoff_s(0) for _ in range(50)) <= 0.2
    assert MAX_PAUSE_S / 2 <= backoff_s(1000) <= MAX_PAUSE_S
    assert len({backoff_s(3) for _ in range(20)}) > 1


def test_a_retry_after_may_be_a_date() -> None:
    assert 55 < (parse_retry_after(format_datetime(datetime.now(UTC) + timedelta(minutes=1))) or 0) <= 60
    assert [parse_retry_after(text) for text in ("7", "-3", "soon", "", None)] == [7.0, 0.0, None, None, None]


def test_a_certificate_that_is_not_trusted_is_said_in_one_plain_sentence(tmp_path: Path) -> None:
    with http_server({"GET /": FINE}, Certificate.made_in(tmp_path).server()) as server:
        transport = HttpTransport(server.url.replace("http:", "https:"), "s3cret", 5.0)
        with pytest.raises(Unreachable) as caught:
            transport.request("GET", "/")
        transport.close()
    assert "its certificate is not trusted here (self" in str(caught.value)
    assert "REQUESTS_CA_BUNDLE" in str(caught.value)
    assert "Max retries" not in str(caught.value)


def test_a_server_that_speaks_no_tls_is_told_as_that() -> None:
    with http_server({"GET /": FINE}) as server:
        transport = HttpTransport(server.url.replace("http:", "https:"), "s3cret", 0.0)
        with pytest.raises(Unreachable, match="no TLS connection: "):
            transport.request("GET", "/")
        transport.close()


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"Idempotency-Key": "ключ"}},
        {"headers": {"Idempotency-Key": "a\udcff"}},
        {"headers": {"Idempotency-Key": "a\nb"}},
        {"params": {"owner": "a\udcff"}},
        {"params": {"kind": ("llm.chat", "a\udcff")}},
    ],
)
def test_text_that_http_cannot_carry_is_refused_before_anything_is_sent(options: dict[str, Any]) -> None:
    transport = HttpTransport("http://127.0.0.1:1", "", patience_s=0)
    with pytest.raises(InvalidArgument, match="Idempotency-Key|owner|kind"):
        transport.request("GET", "/tasks", **options)
    transport.close()


@pytest.mark.parametrize("url", ["http://[::1", "http://host:port", "http://host:99999", "http://", "ftp://host", "x"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidArgument, match="the address must be like http://HOST:PORT"):
        HttpTransport(url, "token", 0)


def test_a_server_that_is_not_there_is_told_in_the_system_s_words_without_its_numbers() -> None:
    transport = HttpTransport(f"http://127.0.0.1:{free_port()}", "token", 0)
    with pytest.raises(Unreachable, match="cannot be reached: Connection refused$"):
        transport.request("GET", "/health")
    transport.close()
