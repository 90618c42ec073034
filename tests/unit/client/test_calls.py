from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from graycat.client.calls import MAX_PAUSE_S, Caller, object_in, pause_of, seconds
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
from tests.support.helpers import free_port
from tests.support.scripted import error, in_turn, says
from tests.support.servers import Answer, drop, http_server

FINE = says(200, {"fine": True})
HTML = says(502, b"<h1>Bad Gateway</h1>")


@pytest.fixture
def ask() -> Callable[..., Any]:
    """Return how to ask a server that answers in turn; and what it answered."""

    def asked(*answers: Answer, patience_s: float = 5.0, seen: list[dict[str, str]] | None = None) -> dict:
        with http_server({"GET /": in_turn(*answers, seen=seen)}) as server:
            caller = Caller(server.url, "s3cret", patience_s)
            try:
                return object_in(caller.call("GET", "/"))
            finally:
                caller.close()

    return asked


def test_an_answer_is_asked_for_with_the_api_token(ask) -> None:
    seen: list[dict[str, str]] = []
    assert ask(FINE, seen=seen) == {"fine": True}
    assert seen[0]["Authorization"] == "Bearer s3cret"
    assert seen[0]["User-Agent"].startswith("graycat-client/")


@pytest.mark.parametrize(
    "problem", [drop, HTML, error(503, "broker_unavailable"), error(429, "limit", Retry_After="0")]
)
def test_what_may_pass_is_tried_again(ask, pauses, problem: Answer) -> None:
    assert ask(problem, problem, FINE) == {"fine": True}
    assert len(pauses) == 2


def test_a_server_says_when_to_come_back(ask, pauses) -> None:
    assert ask(error(503, "queue_full", Retry_After="3"), FINE) == {"fine": True}
    assert pauses == [3.0]


def test_nobody_waits_past_the_patience(ask, pauses) -> None:
    with pytest.raises(QueueFull) as caught:
        ask(error(503, "queue_full", Retry_After="30"), FINE)
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
        (says(307, b"", Location="https://elsewhere.example/"), UnexpectedReply),
        (says(200, b"<h1>It works!</h1>"), UnexpectedReply),
        (says(200, [1, 2]), UnexpectedReply),
    ],
)
def test_what_would_stay_is_raised_at_once(ask, pauses, problem: Answer, expected: type[Exception]) -> None:
    with pytest.raises(expected):
        ask(problem, FINE)
    assert pauses == []


def test_a_server_that_is_not_there_is_told_with_its_address_and_without_the_token() -> None:
    port = free_port()
    caller = Caller(f"http://127.0.0.1:{port}/", "s3cret", 0)
    with pytest.raises(Unreachable, match=f"^http://127.0.0.1:{port} cannot be reached: .*refused") as caught:
        caller.call("GET", "/")
    assert "s3cret" not in str(caught.value)


def test_an_api_token_is_sent_whatever_a_netrc_says(ask, tmp_path, monkeypatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password mine\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    seen: list[dict[str, str]] = []
    ask(FINE, seen=seen)
    assert seen[0]["Authorization"] == "Bearer s3cret"


@pytest.mark.parametrize(("url", "token"), [("box:8000", ""), ("ftp://box", ""), ("http://", ""), ("http://b", "a\nb")])
def test_what_cannot_be_an_address_or_a_token_is_refused(url: str, token: str) -> None:
    with pytest.raises(InvalidArgument):
        Caller(url, token, 1)


def test_pauses_grow_up_to_a_most_and_differ() -> None:
    assert max(pause_of(0) for _ in range(50)) <= 0.2
    assert MAX_PAUSE_S / 2 <= pause_of(1000) <= MAX_PAUSE_S
    assert len({pause_of(3) for _ in range(20)}) > 1


def test_a_time_to_come_back_may_be_a_date() -> None:
    assert 55 < (seconds(format_datetime(datetime.now(UTC) + timedelta(minutes=1))) or 0) <= 60
    assert [seconds(text) for text in ("7", "-3", "soon", "", None)] == [7.0, 0.0, None, None, None]
