"""How events, keep-alives and late errors look on each wire."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from graycat.errors import GraycatError

#: Unity's v3 client reads its socket in pieces of 4,096 bytes and takes each piece for a whole event.
LARGEST_EVENT = 3000
#: What a final event repeats of the request, in the order in which it is left out.
ECHOES = ("prompt", "generation_settings")


@dataclass(frozen=True, slots=True)
class Dialect:
    """``event`` turns one of the engine's events into the one chunk that the client gets, ``error`` an error that
    comes when the status is out already."""

    event: Callable[[bytes], bytes]
    keepalive: bytes
    error: Callable[[GraycatError], bytes]


def native_event(event: bytes) -> bytes:
    """Return one event of a native stream as every known Unity client can read it.

    - The final event repeats the prompt. Over ``LARGEST_EVENT`` bytes it breaks the v3 client's reader, and the game
      gets an empty answer, so then it goes without.
    - The v1 and v2 clients split the body at each ``data: ``, also inside a text.
    """
    if len(event) > LARGEST_EVENT:
        event = _without_echoes(event)
    if event.count(b"data: ") > 1:
        head, text = event[:6], event[6:]
        event = head + text.replace(b"data: ", rb"data\u003a ")
    return event


def _without_echoes(event: bytes) -> bytes:
    try:
        final = json.loads(event.removeprefix(b"data: "))
    except (ValueError, RecursionError):
        final = None
    # Whatever an engine sends, who passes it on must not fall over it: the hub does that for everybody.
    for field in ECHOES if isinstance(final, dict) else ():
        if len(event) > LARGEST_EVENT:
            final.pop(field, None)
            event = b"data: " + json.dumps(final, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"
    return event


def _unchanged(event: bytes) -> bytes:
    return event


def _data_error(error: GraycatError) -> bytes:
    return b"data: " + error.encoded() + b"\n\n"


def _messages_error(error: GraycatError) -> bytes:
    # What comes out of a task's events is an EngineError around the body that says what it was.
    kind, message = error.type, str(error)
    with contextlib.suppress(ValueError, KeyError, TypeError):
        told = json.loads(error.encoded())["error"]
        kind, message = told["type"], told["message"]
    body = {"type": "error", "error": {"type": kind, "message": message}}
    return b"event: error\ndata: " + json.dumps(body).encode() + b"\n\n"


#: llama.cpp's own routes. A blank line is the one keep-alive that every Unity client tolerates.
NATIVE = Dialect(native_event, b"\n", _data_error)
#: OpenAI's routes: comments are what their clients skip.
OPENAI = Dialect(_unchanged, b": keep-alive\n\n", _data_error)
#: Anthropic's messages name their events.
MESSAGES = Dialect(_unchanged, b": keep-alive\n\n", _messages_error)
