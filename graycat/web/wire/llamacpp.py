"""The native llama.cpp routes, as Unity's clients and llama.cpp's own call them."""

from __future__ import annotations

import json

from flask import Blueprint, Response, current_app, request
from flask.typing import ResponseReturnValue

from graycat import params
from graycat.errors import EngineNotReady
from graycat.tasks import signatures
from graycat.tasks.signatures import GATHER, LLM, PLAIN, STREAM
from graycat.web.auth import token_auth
from graycat.web.waiting import respond

bp = Blueprint("llamacpp", __name__)

#: Unity's v3 client reads its socket in pieces of 4,096 bytes and takes each piece for a whole event.
LARGEST_EVENT = 3000
#: What a final event repeats of the request, in the order in which it is left out.
ECHOES = ("prompt", "generation_settings")


@bp.post("/completion")
@token_auth.login_required
def completion() -> ResponseReturnValue:
    """Complete a prompt, whole or as server-sent events."""
    raw = request.get_data(cache=False)
    body = params.read_object(raw)
    params.completion_prompt(body)
    if params.streams(body):
        return respond(signatures.COMPLETION, STREAM, raw, completion_event)
    if not params.gatherable(body):
        return respond(signatures.COMPLETION, PLAIN, raw)
    # A stream stops at once when it is hung up; a plain call to llama.cpp may run on to its end.
    return respond(signatures.COMPLETION, GATHER, json.dumps(body | {"stream": True}).encode())


@bp.post("/tokenize")
@token_auth.login_required
def tokenize() -> ResponseReturnValue:
    """Split text into the model's tokens."""
    return _quick(signatures.TOKENIZE)


@bp.post("/detokenize")
@token_auth.login_required
def detokenize() -> ResponseReturnValue:
    """Join the model's tokens to text."""
    return _quick(signatures.DETOKENIZE)


@bp.post("/apply-template")
@token_auth.login_required
def apply_template() -> ResponseReturnValue:
    """Write chat messages as the model's prompt."""
    return _quick(signatures.APPLY_TEMPLATE)


@bp.route("/props", methods=["GET", "POST"])
@token_auth.login_required
def props() -> ResponseReturnValue:
    """Tell the engine's properties, from the fleet's record.

    Unity asks by POST, with a body to ignore; a stock llama.cpp server would take that for a change of its settings.
    """
    for worker in current_app.extensions["graycat"].serving(LLM):
        return Response(worker.props, content_type="application/json; charset=utf-8")
    raise EngineNotReady


def _quick(kind: signatures.Kind) -> ResponseReturnValue:
    raw = request.get_data(cache=False)
    params.read_object(raw)
    return respond(kind, PLAIN, raw)


def completion_event(event: bytes) -> bytes:
    """Return one event of a stream as every known Unity client can read it.

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
    final = json.loads(event.removeprefix(b"data: "))
    for field in ECHOES:
        if len(event) > LARGEST_EVENT:
            final.pop(field, None)
            event = b"data: " + json.dumps(final, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"
    return event
