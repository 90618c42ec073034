"""What single callers do and what they understand: each answer becomes an outcome in the ledger."""

from __future__ import annotations

import time
from typing import Any

import requests

from chaos.ledger import Call, Caller, Ledger, Outcome
from chaos.system import System
from tests.support.unity import Answer, BrokenAnswer, ErrorAnswer, V3Reader, send_post

#: Tokens of a stream.
STREAM_TOKENS = 40
#: Statuses with which graycat says that it has accepted nothing, and that the caller may try again.
TRY_AGAIN = (429, 503)


class TimedReader(V3Reader):
    """The strict reader of Unity's v3 client, which notes when each event came."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def _take(self, piece: bytes, answer: Answer) -> None:
        before = len(answer.events)
        super()._take(piece, answer)
        if len(answer.events) > before:
            self._call.arrivals.append(time.monotonic())


def play(system: System, ledger: Ledger, call: Call, tokens: int = STREAM_TOKENS) -> None:
    """Read a stream as a game does: whole, each token once and in order, or with an error that it can read."""
    body = {"prompt": call.name, "n_predict": tokens, "stream": True}
    headers = {"X-Request-ID": call.name}
    try:
        connection = send_post(system.url, "/completion", body, system.tokens["game"], headers)
    except OSError as error:
        ledger.end(call, judge_failure(error), type(error).__name__)
        return
    try:
        with connection:
            answer = TimedReader(call).read(connection)
    except ErrorAnswer as error:
        ledger.end(call, *understand(error.status, error.body, begun=bool(call.arrivals)))
    except (BrokenAnswer, OSError) as error:
        ledger.end(call, judge_failure(error), f"{type(error).__name__}: {error}"[:200])
    else:
        ledger.end(call, *judge_tokens(answer, tokens))


def judge_failure(error: Exception) -> Outcome:
    """Return what it means that a request failed without an answer: silence is a hung caller, not a broken one."""
    text = str(error).lower()
    # requests raises ConnectionError if the head of an answer has come and its body does not: only the text tells.
    if isinstance(error, (TimeoutError, requests.Timeout)) or "timed out" in text:
        return Outcome.OPEN
    if isinstance(error, ConnectionRefusedError) or "connection refused" in text:
        return Outcome.REFUSED
    return Outcome.BROKEN


def judge_tokens(answer: Answer, tokens: int) -> tuple[Outcome, str]:
    """Return whether a stream of the counting engine has every number once and in order."""
    expected = list(range(tokens))
    told = answer.events[-1].get("tokens_predicted")
    if answer.tokens != expected:
        return Outcome.WRONG, f"tokens {answer.tokens} in place of 0 to {tokens - 1}"
    if answer.content.split() != [str(number) for number in expected]:
        return Outcome.WRONG, f"text {answer.content!r}"
    if told != tokens:
        return Outcome.WRONG, f"it says that it has {told} tokens"
    return Outcome.WHOLE, ""


def understand(status: int, body: Any, *, begun: bool = False) -> tuple[Outcome, str]:
    """Return what an answer with an error means. Each must have a code and a sentence."""
    code = read_code(body)
    if not code:
        return Outcome.WRONG, f"{status} without a code: {str(body)[:200]}"
    detail = f"{status} {code}"
    if status in TRY_AGAIN and not begun:
        return Outcome.REFUSED, detail
    if status == 500:
        return Outcome.WRONG, detail
    return Outcome.ERROR, detail


def read_code(body: Any) -> str:
    """Return the code of an error that has one and a sentence: in the engines' form, or in the WebUI's; '' for none."""
    if not isinstance(body, dict):
        return ""
    error, sentence = body.get("error"), body.get("detail")
    if isinstance(error, dict):
        body, sentence = error, error.get("message")
    if not sentence:
        return ""
    return str(body.get("type", ""))


def send(
    system: System, ledger: Ledger, call: Call, method: str, path: str, owner: str, **options: Any
) -> requests.Response | None:
    """Send a whole request; end its call if that went wrong, and return None; else the answer, the call still open."""
    headers = {"X-Request-ID": call.name, **options.pop("headers", {})}
    try:
        answer = system.request(method, path, owner, headers=headers, **options)
    except requests.RequestException as error:
        ledger.end(call, judge_failure(error), f"{type(error).__name__}: {error}"[:200])
        return None
    if answer.ok:
        return answer
    ledger.end(call, *understand(answer.status_code, read_json(answer)))
    return None


def read_json(answer: requests.Response) -> Any:
    """Return an answer's JSON; None if it is none."""
    try:
        return answer.json()
    except ValueError:
        return None


def hang_up(system: System, name: str, kind: str, body: dict[str, Any]) -> None:
    """Submit a task and hang up before the answer: the client has crashed, and knows nothing."""
    content, headers = {"kind": kind, "input": body}, {"X-Request-ID": name}
    try:
        connection = send_post(system.url, f"/tasks/{name}", content, system.tokens[Caller.REST], headers, "PUT")
    except OSError:
        return
    connection.close()
