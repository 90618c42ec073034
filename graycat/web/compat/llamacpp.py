"""llama.cpp's own API, for Unity's clients and llama.cpp's."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue

from graycat import families, params
from graycat.auth.tokens import LLM as LLM_SCOPE
from graycat.bounds.stored import parse_json
from graycat.errors import EngineNotReady
from graycat.queue.kinds import (
    APPLY_TEMPLATE,
    COMPLETION,
    DETOKENIZE,
    EMBEDDINGS,
    INFILL,
    LORA_ADAPTERS,
    RERANK,
    SET_LORA_ADAPTERS,
    SLOTS,
    TOKENIZE,
)
from graycat.queue.topology import LLM
from graycat.redaction.answers import hide_in_reply
from graycat.web.auth import is_admin, scope_required, token_auth
from graycat.web.compat.route import Route, add_routes
from graycat.web.compat.unity_templates import template_name
from graycat.web.services import AGE_HEADER, services

bp = Blueprint("llamacpp", __name__)

#: User agent of Unity's clients before version 3. They expect an object from ``embeddings``; llama.cpp answers a list.
OLD_UNITY_AGENT = "UnityPlayer/"


def check_completion(body: dict[str, Any]) -> None:
    """Check the prompt of a completion. Raises RequestError."""
    params.completion_prompt(body)


def reshape_embedding(reply: bytes) -> bytes:
    """Return an embedding in the form that the client of this request reads.

    Unity's clients before version 3 get an object, all others the engine's list.
    """
    if not request.headers.get("User-Agent", "").startswith(OLD_UNITY_AGENT):
        return reply
    embedding = parse_json(reply)[0]["embedding"]
    if embedding and isinstance(embedding[0], list):
        embedding = embedding[0]
    return json.dumps({"embedding": embedding}).encode()


def last_slots() -> Response | None:
    """Return what an engine's slots did when its worker last looked, a few seconds ago; None if no worker tells.

    Who has no scope ``admin`` reads only whether they work.

    Asking the engine would keep it from noticing hang-ups (graycat/worker/engine_slots.py).
    """
    workers, headers = services().select_answering(LLM)
    for worker in workers:
        reply = services().worker_registry.catalog(worker.name).get(SLOTS.path)
        if reply is not None:
            if not is_admin():
                reply = hide_in_reply(SLOTS.path, reply)
            age_s = int(headers.get(AGE_HEADER, 0)) + int(worker.slots_age_s)
            return Response(reply, content_type="application/json; charset=utf-8", headers={AGE_HEADER: str(age_s)})
    return None


ROUTES = (
    Route(
        COMPLETION,
        ("/completion", "/completions"),
        "Complete a prompt, whole or as server-sent events.",
        streams=True,
        length_field="n_predict",
        check=check_completion,
        gatherable=params.gatherable,
        fields=(
            *("prompt", "n_predict", "stream", "temperature", "top_k", "top_p", "min_p", "repeat_penalty", "seed"),
            *("stop", "cache_prompt", "grammar", "json_schema"),
        ),
        required=("prompt",),
    ),
    Route(
        INFILL,
        ("/infill",),
        "Fill in code between a prefix and a suffix.",
        streams=True,
        length_field="n_predict",
        fields=("input_prefix", "input_suffix", "stream"),
    ),
    Route(
        EMBEDDINGS,
        ("/embeddings", "/embedding"),
        "Turn text into vectors.",
        reshape=reshape_embedding,
        fields=("content",),
    ),
    Route(
        RERANK,
        ("/rerank", "/reranking", "/v1/rerank", "/v1/reranking"),
        "Order documents by how well they answer a query.",
        fields=("query", "documents"),
    ),
    Route(
        TOKENIZE,
        ("/tokenize",),
        "Split text into the model's tokens.",
        fields=("content",),
    ),
    Route(
        DETOKENIZE,
        ("/detokenize",),
        "Join tokens to text.",
        fields=("tokens",),
    ),
    Route(
        APPLY_TEMPLATE,
        ("/apply-template",),
        "Write chat messages as the model's prompt.",
        fields=("messages",),
    ),
    Route(SLOTS, ("/slots",), "Show what an engine's slots are doing.", last_answer=last_slots),
    Route(LORA_ADAPTERS, ("/lora-adapters",), "List an engine's LoRA adapters."),
    Route(SET_LORA_ADAPTERS, ("/lora-adapters",), "Scale an engine's LoRA adapters.", admin=True),
)
add_routes(bp, ROUTES)


@bp.route("/props", methods=["GET", "POST"])
@token_auth.login_required
@scope_required(LLM_SCOPE)
def props() -> ResponseReturnValue:
    """Show the engine's properties, as its worker last reported them.

    Unity asks with POST and a body, which is ignored. llama.cpp's server would take that for a change of its settings.
    """
    properties, headers = _props()
    if not is_admin():
        properties = _hide_in_props(properties)
    return Response(properties, content_type="application/json; charset=utf-8", headers=headers)


@bp.post("/template")
@token_auth.login_required
@scope_required(LLM_SCOPE)
def template() -> ResponseReturnValue:
    """Tell the name of the model's chat template, for Unity's clients before version 3."""
    properties, headers = _props()
    response = jsonify(template=template_name(_chat_template(properties)))
    response.headers.update(headers)
    return response


def _chat_template(properties: str) -> str:
    """Return the model's own template; '' if the engine tells none. A worker of a box may report anything."""
    try:
        found = parse_json(properties)
    except ValueError:
        return ""
    jinja = found.get("chat_template") if isinstance(found, dict) else None
    return jinja if isinstance(jinja, str) else ""


@lru_cache(maxsize=16)
def _hide_in_props(properties: str) -> str:
    return hide_in_reply("/props", properties.encode()).decode()


def _props() -> tuple[str, dict[str, str]]:
    """Return an engine's properties, and the headers of the answer."""
    workers, headers = services().select_answering(LLM)
    if not workers:
        services().require_engine(families.LLM)
        raise EngineNotReady
    return workers[0].props, headers
