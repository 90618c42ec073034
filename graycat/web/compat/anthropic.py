"""Anthropic's messages API under ``/v1``, as llama.cpp offers it."""

from __future__ import annotations

from flask import Blueprint

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
        tag="Anthropic",
        fields=("messages", "model", "stream", "tools", "max_tokens"),
    ),
    Route(
        kinds.COUNT_MESSAGES,
        ("/v1/messages/count_tokens",),
        "Count the tokens of a messages request.",
        by_model=True,
        tag="Anthropic",
        fields=("messages", "model"),
    ),
)
add_routes(bp, ROUTES)
