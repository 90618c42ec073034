"""What an engine's answer says: whether it is JSON, an error, or whole. Each dialect of the engines has its own words.

The wire is llama.cpp's (``server_task_result_*`` in its ``tools/server/server-task.cpp``, build 11549), OpenAI's chat,
completions and responses, and Anthropic's messages, also as other servers write them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json import JSONDecoder
from typing import Any

from graycat.bounds.body import count_answers
from graycat.bounds.stored import parse_json
from graycat.errors import EngineError, EngineProtocolError
from graycat.queue.kinds import CHAT, MESSAGES, OPENAI_COMPLETION, RESPONSES, Kind

#: What ends a stream of OpenAI's chat and completions, and an event of it.
DONE = b"[DONE]"
DONE_EVENT = b"data: " + DONE + b"\n\n"
#: An answer of fewer bytes is read as a whole before it is passed on; of a longer one only how it begins and ends.
READ_WHOLE_BYTES = 64 * 1024
#: The status of an error that tells none.
DEFAULT_STATUS = 500
_CLIENT_ERROR, _LAST_STATUS = 400, 599
_OPENAI_KINDS = (CHAT, OPENAI_COMPLETION)
#: The last events of a stream, by their ``type``; the second says that a limit was reached.
_LAST_TYPES = {
    RESPONSES: ("response.completed", "response.incomplete"),
    MESSAGES: ("message_stop",),
}
_FAILED_RESPONSE = "response.failed"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


#: ``json.loads`` without its guesses at the encoding: half of its time, for every token.
_scan: Callable[[str, int], tuple[Any, int]] = JSONDecoder(parse_constant=_refuse_constant).scan_once  # type: ignore[attr-defined]


class StreamCheck:
    """Reads the events of one stream in turn, each as ``EventParser`` writes it."""

    def __init__(self, kind: Kind, request: bytes) -> None:
        """``request``: the body that the engine was sent."""
        self._kind = kind
        self._request = request
        self._is_openai = kind in _OPENAI_KINDS
        self._last_types = _LAST_TYPES.get(kind, ())
        #: Whether the event was read that ends a stream of this kind.
        self.is_whole = False
        #: Whether ``[DONE]`` was read: nothing follows.
        self.is_done = False
        #: Which of the answers have told why they ended.
        self._finished: set[Any] = set()

    def take(self, event: bytes) -> bytes:
        """Return an event as it is to be passed on; b"" for one that is not.

        Raises EngineError for one that is an error, and EngineProtocolError for one that is no JSON object.
        """
        if self.is_done:
            return b""
        name = b""
        if event.startswith(b"data: "):
            data = event[6:-2]
        else:
            head, _, data = event[:-2].partition(b"\ndata: ")
            name = head.removeprefix(b"event: ")
        if data.strip() == DONE:
            return self._take_done()
        value = _read_json(data)
        if value is None:
            # llama.cpp's completions begin with it if usage is asked for (findings/).
            return event
        if name == b"error" or value.get("error") or value.get("type") == "error":
            raise to_engine_error(value, data)
        self._look_for_end(value)
        return event

    def _take_done(self) -> bytes:
        """Note the end. Only OpenAI's clients know this event; LLM for Unity sends its whole request again on it."""
        self.is_done = True
        if not self._is_openai:
            return b""
        self.is_whole = True
        return DONE_EVENT

    def _look_for_end(self, value: dict[str, Any]) -> None:
        if self._is_openai:
            choices = value.get("choices")
            if isinstance(choices, list):
                for choice in choices:
                    if isinstance(choice, dict) and choice.get("finish_reason"):
                        self._finished.add(str(choice.get("index")))
        elif self._last_types:
            kind = value.get("type")
            if kind == _FAILED_RESPONSE and isinstance(value.get("response"), dict):
                raise to_engine_error(value["response"], b"")
            if kind in self._last_types:
                self.is_whole = True
        else:
            self.is_whole = bool(value.get("stop"))

    def finish(self) -> list[bytes]:
        """Return what the engine has left out at the end of its stream: some servers never write ``[DONE]``."""
        if not self._is_openai or self.is_done or not self._finished:
            return []
        if len(self._finished) < _count_answers(self._request):
            return []
        return [self._take_done()]


def _count_answers(request: bytes) -> int:
    try:
        return count_answers(parse_json(request))
    except (ValueError, TypeError, AttributeError):
        return 1


def _read_json(data: bytes) -> dict[str, Any] | None:
    """Return the object in an event's data; None for ``null``. Raises EngineProtocolError."""
    try:
        text = data.decode()
        value, end = _scan(text, len(text) - len(text.lstrip()))
        if text[end:].strip():
            raise ValueError("more than one value")
    except (ValueError, StopIteration, RecursionError):
        raise EngineProtocolError("an event of its stream is no JSON") from None
    if value is not None and not isinstance(value, dict):
        raise EngineProtocolError("an event of its stream is no JSON object")
    return value


def to_engine_error(value: dict[str, Any], reply: bytes) -> EngineError:
    """Return the error that an engine tells in JSON, in llama.cpp's form: the engine's own bytes if they have it.

    ``value``: the object with the error in it or, in Anthropic's and old servers' events, the error itself.
    """
    inner = value.get("error") or value
    if isinstance(inner, str):
        inner = {"message": inner}
    if not isinstance(inner, dict):
        inner = {}
    status = _read_status(inner)
    message, kind = inner.get("message"), inner.get("type")
    if inner is not value and inner.get("code") == status and isinstance(message, str) and isinstance(kind, str):
        return EngineError(status, reply or json.dumps({"error": inner}).encode())
    if not isinstance(message, str) or not message:
        message = "the engine tells of an error without saying which"
    if not isinstance(kind, str) or kind == "error":
        kind = "server_error"
    body = {"error": inner | {"code": status, "message": message, "type": kind}}
    return EngineError(status, json.dumps(body).encode())


def _read_status(error: dict[str, Any]) -> int:
    """Return the HTTP status that an error tells."""
    for name in ("code", "status_code", "status"):
        status = error.get(name)
        if type(status) is int and _CLIENT_ERROR <= status <= _LAST_STATUS:
            return status
    return DEFAULT_STATUS


def check_whole(reply: bytes) -> None:
    """Check that a whole answer with status 200 is JSON and no error. Raises EngineError, EngineProtocolError.

    A proxy may answer with a page of its own, and some servers send errors with this status.
    """
    if len(reply) > READ_WHOLE_BYTES:
        if reply.lstrip()[:1] + reply.rstrip()[-1:] not in (b"{}", b"[]"):
            raise EngineProtocolError("it is no JSON")
        return
    try:
        value = parse_json(reply)
    except ValueError:
        raise EngineProtocolError("it is no JSON") from None
    # A response of OpenAI's tells of its own failure in this field.
    if isinstance(value, dict) and value.get("error") and value.get("object") != "response":
        raise to_engine_error(value, reply)


def refusal(status: int, reply: bytes) -> EngineError | EngineProtocolError:
    """Return the error of an answer with an error's status: the engine's own, unless something else has spoken."""
    try:
        is_object = isinstance(parse_json(reply), dict)
    except ValueError:
        is_object = False
    if is_object:
        return EngineError(status, reply)
    return EngineProtocolError(f"status {status} without JSON: something else may stand before it")
