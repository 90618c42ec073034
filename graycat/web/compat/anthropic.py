"""Anthropic's messages API under ``/v1``, as llama.cpp offers it."""

from __future__ import annotations

import json

from flask import Blueprint, Response

from graycat.bounds.stored import parse_json
from graycat.queue import kinds
from graycat.web.compat.route import Route, add_routes
from graycat.web.streaming.formats import ANTHROPIC

bp = Blueprint("anthropic", __name__)

ROUTES = (
    Route(
        kinds.MESSAGES,
        ("/v1/messages",),
        "Answer in Anthropic's messages form.",
        stream_format=ANTHROPIC,
        streams=True,
        length_field="max_tokens",
        by_model=True,
        fields=("messages", "model", "stream", "tools", "max_tokens"),
    ),
    Route(
        kinds.COUNT_MESSAGES,
        ("/v1/messages/count_tokens",),
        "Count the tokens of a messages request.",
        by_model=True,
        fields=("messages", "model"),
    ),
)
add_routes(bp, ROUTES)


@bp.after_request
def mark_error(response: Response) -> Response:
    """Write ``"type": "error"`` beside an error, as Anthropic's API does; llama.cpp leaves it out."""
    if response.status_code >= 400 and not response.is_streamed:
        response.set_data(to_anthropic_error(response.get_data()))
    return response


def to_anthropic_error(body: bytes) -> bytes:
    """Return an error's body with Anthropic's mark; one that is no error in llama.cpp's form is returned unchanged."""
    try:
        value = parse_json(body)
    except ValueError:
        return body
    if not isinstance(value, dict) or not isinstance(value.get("error"), dict):
        return body
    return json.dumps({"type": "error"} | value).encode()
