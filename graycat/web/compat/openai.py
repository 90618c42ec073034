"""The OpenAI-compatible routes under ``/v1``, and Anthropic's messages beside them, as llama.cpp has them."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from graycat.auth.tokens import LLM as LLM_SCOPE
from graycat.errors import EngineNotReady
from graycat.queue import kinds
from graycat.queue.topology import LLM
from graycat.web.auth import scope_required, token_auth
from graycat.web.compat.route import Route, add_routes
from graycat.web.services import services
from graycat.web.streaming.formats import MESSAGES, OPENAI

bp = Blueprint("openai", __name__)

_CHAT = ("messages", "model", "stream", "tools", "max_tokens")

ROUTES = (
    Route(
        kinds.CHAT,
        ("/v1/chat/completions", "/chat/completions"),
        "Answer a chat.",
        dialect=OPENAI,
        streams=True,
        length_field="max_tokens",
        by_model=True,
        tag="OpenAI",
        fields=_CHAT,
    ),
    Route(
        kinds.OPENAI_COMPLETION,
        ("/v1/completions",),
        "Complete a prompt.",
        dialect=OPENAI,
        streams=True,
        length_field="max_tokens",
        by_model=True,
        tag="OpenAI",
        fields=("prompt", "model", "stream"),
    ),
    Route(
        kinds.OPENAI_EMBEDDINGS,
        ("/v1/embeddings",),
        "Turn text into vectors.",
        by_model=True,
        tag="OpenAI",
        fields=("input", "model"),
    ),
    Route(
        kinds.RESPONSES,
        ("/v1/responses",),
        "Answer in OpenAI's responses form.",
        dialect=OPENAI,
        streams=True,
        length_field="max_output_tokens",
        by_model=True,
        tag="OpenAI",
        fields=("input", "model", "stream"),
    ),
    Route(
        kinds.MESSAGES,
        ("/v1/messages",),
        "Answer in Anthropic's messages form.",
        dialect=MESSAGES,
        streams=True,
        length_field="max_tokens",
        by_model=True,
        tag="OpenAI",
        fields=_CHAT,
    ),
    Route(
        kinds.COUNT_CHAT,
        ("/v1/chat/completions/input_tokens", "/chat/completions/input_tokens"),
        "Count the tokens of a chat.",
        by_model=True,
        tag="OpenAI",
        fields=_CHAT[:2],
    ),
    Route(
        kinds.COUNT_RESPONSES,
        ("/v1/responses/input_tokens",),
        "Count the tokens of a responses request.",
        by_model=True,
        tag="OpenAI",
        fields=("input", "model"),
    ),
    Route(
        kinds.COUNT_MESSAGES,
        ("/v1/messages/count_tokens",),
        "Count the tokens of a messages request.",
        by_model=True,
        tag="OpenAI",
        fields=_CHAT[:2],
    ),
)
add_routes(bp, ROUTES)


@bp.get("/v1/models")
@bp.get("/models", endpoint="models_native")
@token_auth.login_required
@scope_required(LLM_SCOPE)
def models() -> ResponseReturnValue:
    """List the models of all engines that are ready, each once."""
    lists: list[dict[str, Any]] = [json.loads(w.model_list) for w in services().serving(LLM)]
    if not lists:
        raise EngineNotReady
    # An engine answers OpenAI's `data`, and Ollama's `models` beside it.
    merged = lists[0] | {"data": _each_once(lists, "data", "id")}
    if "models" in merged:
        merged["models"] = _each_once(lists, "models", "model")
    return jsonify(merged)


def _each_once(lists: list[dict[str, Any]], field: str, key: str) -> list[Any]:
    return list({item.get(key): item for found in reversed(lists) for item in found.get(field, [])}.values())
