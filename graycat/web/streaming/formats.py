"""How events, keep-alives and late errors are written in each API's stream, for LLM for Unity among others.

``responses.py`` and ``direct.py`` send them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from graycat.bounds.stored import parse_json, write_json
from graycat.errors import GraycatError

#: Unity's v3 client reads its socket in pieces of 4,096 bytes and takes each piece for a whole event.
MAX_EVENT_BYTES = 3000
#: Fields of a final event that only repeat the request, in the order in which they are left out.
ECHOED_FIELDS = ("prompt", "generation_settings")


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """How one API writes its streams.

    ``encode_event`` turns one event of the engine into the one chunk that the client gets. ``encode_error`` writes an
    error that comes after the HTTP status has been sent.
    """

    encode_event: Callable[[bytes], bytes]
    keepalive: bytes
    encode_error: Callable[[GraycatError], bytes]


def encode_llamacpp_event(event: bytes) -> bytes:
    """Return one event of a llama.cpp stream so that every known Unity client can read it.

    - The final event repeats the prompt. Over ``MAX_EVENT_BYTES`` it breaks the v3 client's reader, and the game gets
      an empty answer. Such an event is sent without the repeated fields.
    - The v1 and v2 clients split the body at each ``data: ``, also inside a text. There it is escaped.
    """
    if len(event) > MAX_EVENT_BYTES:
        event = _without_echoed_fields(event)
    if event.count(b"data: ") > 1:
        prefix, text = event[:6], event[6:]
        event = prefix + text.replace(b"data: ", rb"data\u003a ")
    return event


def _without_echoed_fields(event: bytes) -> bytes:
    """Return an event without as many echoed fields as make it short enough.

    An event that is no JSON object is returned as it is. An exception here would end the hub, which serves all
    requests of this process, so nothing that an engine may send raises one.
    """
    try:
        final = parse_json(event.removeprefix(b"data: "))
    except ValueError:
        return event
    if not isinstance(final, dict):
        return event

    for field in ECHOED_FIELDS:
        if len(event) > MAX_EVENT_BYTES:
            final.pop(field, None)
            event = b"data: " + write_json(final) + b"\n\n"
    return event


def _unchanged(event: bytes) -> bytes:
    return event


def _encode_data_error(error: GraycatError) -> bytes:
    return b"data: " + error.encoded() + b"\n\n"


def _encode_anthropic_error(error: GraycatError) -> bytes:
    # An error out of a task's events is an EngineError: the original type and message are in its body.
    try:
        original = parse_json(error.encoded())["error"]
        error_type, message = original["type"], original["message"]
    except (ValueError, KeyError, TypeError):
        error_type, message = error.type, str(error)
    body = {"type": "error", "error": {"type": error_type, "message": message}}
    return b"event: error\ndata: " + json.dumps(body).encode() + b"\n\n"


#: llama.cpp's own routes. A blank line is the only keep-alive that every Unity client tolerates.
LLAMACPP = StreamFormat(encode_llamacpp_event, b"\n", _encode_data_error)
#: OpenAI's routes: their clients skip SSE comments.
OPENAI = StreamFormat(_unchanged, b": keep-alive\n\n", _encode_data_error)
#: Anthropic's routes: their events have names.
ANTHROPIC = StreamFormat(_unchanged, b": keep-alive\n\n", _encode_anthropic_error)
