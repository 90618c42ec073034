"""What callers understand: a whole stream, one with a token lost or twice, and each form of an error."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from chaos.callers import judge_failure, judge_tokens, understand
from chaos.ledger import Outcome
from tests.support.unity import Answer, BrokenAnswer

pytestmark = pytest.mark.not_covered


def answer(tokens: list[int], told: int | None = None, content: str | None = None) -> Answer:
    """Return a stream of these tokens as a game has read it."""
    text = "".join(f"{token} " for token in tokens)
    final = {"content": "", "stop": True, "tokens_predicted": len(tokens) if told is None else told}
    return Answer(content=text if content is None else content, tokens=tokens, events=[final])


def test_a_whole_stream() -> None:
    assert judge_tokens(answer([0, 1, 2]), 3) == (Outcome.WHOLE, "")


@pytest.mark.parametrize(
    "wrong",
    [
        answer([0, 2]),
        answer([0, 1, 1, 2]),
        answer([1, 0, 2]),
        answer([0, 1, 2, 0, 1, 2]),
        answer([0, 1, 2], told=2),
        answer([0, 1, 2], content="0 1 1 "),
    ],
)
def test_a_stream_with_a_token_lost_twice_or_out_of_order_is_wrong(wrong: Answer) -> None:
    assert judge_tokens(wrong, 3)[0] is Outcome.WRONG


GOOD = {"error": {"code": 503, "message": "the broker does not answer", "type": "broker_unavailable"}}


@pytest.mark.parametrize(
    ("status", "body", "begun", "outcome"),
    [
        (503, GOOD, False, Outcome.REFUSED),
        (503, GOOD, True, Outcome.ERROR),
        (502, GOOD, False, Outcome.ERROR),
        (500, GOOD, False, Outcome.WRONG),
        (
            503,
            {"error": "HTTPException", "detail": "in a moment", "type": "broker_unavailable"},
            False,
            Outcome.REFUSED,
        ),
        (503, {"error": "HTTPException", "detail": "", "type": "broker_unavailable"}, False, Outcome.WRONG),
        (503, {"error": {"message": "no code"}}, False, Outcome.WRONG),
        (503, {"error": {"type": "no_sentence"}}, False, Outcome.WRONG),
        (503, None, False, Outcome.WRONG),
        (503, "Service Unavailable", False, Outcome.WRONG),
    ],
)
def test_an_error_has_a_code_and_a_sentence(status: int, body: Any, begun: bool, outcome: Outcome) -> None:
    assert understand(status, body, begun=begun)[0] is outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (TimeoutError("timed out"), Outcome.OPEN),
        (requests.ReadTimeout("Read timed out."), Outcome.OPEN),
        (requests.ConnectTimeout("Connection to 127.0.0.1 timed out."), Outcome.OPEN),
        # What requests raises if the body of an answer does not come.
        (requests.ConnectionError("HTTPConnectionPool(host='127.0.0.1', port=8000): Read timed out."), Outcome.OPEN),
        (ConnectionRefusedError(111, "Connection refused"), Outcome.REFUSED),
        (requests.ConnectionError("[Errno 111] Connection refused"), Outcome.REFUSED),
        (ConnectionResetError(104, "Connection reset by peer"), Outcome.BROKEN),
        (requests.ConnectionError("Connection aborted."), Outcome.BROKEN),
        (requests.exceptions.ChunkedEncodingError("Connection broken"), Outcome.BROKEN),
        (BrokenAnswer("the connection ends in the line b''"), Outcome.BROKEN),
    ],
)
def test_silence_is_a_caller_that_hangs_and_no_broken_connection(error: Exception, outcome: Outcome) -> None:
    assert judge_failure(error) is outcome
