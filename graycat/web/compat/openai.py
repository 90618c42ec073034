"""OpenAI's API under ``/v1``, as llama.cpp offers it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from flask import Blueprint, g, jsonify
from flask.typing import ResponseReturnValue

from graycat import families
from graycat.auth.tokens import LLM as LLM_SCOPE
from graycat.auth.tokens import SD as SD_SCOPE
from graycat.bounds.stored import parse_json
from graycat.errors import EngineNotReady, ModelNotFound, NoSuchEngine
from graycat.images.checkpoints import find_checkpoint, title_of
from graycat.loops.unexpected import guarded
from graycat.queue import kinds
from graycat.queue.topology import LLM
from graycat.redaction.answers import hide
from graycat.settings.aliases import parse_aliases
from graycat.web.auth import is_admin, require_scope, token_auth
from graycat.web.compat.route import Route, add_routes
from graycat.web.services import services
from graycat.web.streaming.formats import OPENAI

bp = Blueprint("openai", __name__)

#: What all routes of this API have in common.
_route = partial(Route, stream_format=OPENAI, by_model=True)

ROUTES = (
    _route(
        kinds.CHAT,
        ("/v1/chat/completions", "/chat/completions"),
        "Answer a chat.",
        streams=True,
        length_field="max_tokens",
        fields=("messages", "model", "stream", "tools", "max_tokens", "temperature", "top_p", "seed", "stop"),
    ),
    _route(
        kinds.OPENAI_COMPLETION,
        ("/v1/completions",),
        "Complete a prompt.",
        streams=True,
        length_field="max_tokens",
        fields=("prompt", "model", "stream", "max_tokens", "temperature", "top_p", "seed", "stop"),
        required=("prompt",),
    ),
    _route(
        kinds.OPENAI_EMBEDDINGS,
        ("/v1/embeddings",),
        "Turn text into vectors.",
        fields=("input", "model"),
    ),
    _route(
        kinds.RESPONSES,
        ("/v1/responses", "/responses"),
        "Answer in OpenAI's responses form.",
        streams=True,
        length_field="max_output_tokens",
        fields=("input", "model", "stream"),
    ),
    _route(
        kinds.COUNT_CHAT,
        ("/v1/chat/completions/input_tokens", "/chat/completions/input_tokens"),
        "Count the tokens of a chat.",
        fields=("messages", "model"),
    ),
    _route(
        kinds.COUNT_RESPONSES,
        ("/v1/responses/input_tokens", "/responses/input_tokens"),
        "Count the tokens of a responses request.",
        fields=("input", "model"),
    ),
)
add_routes(bp, ROUTES)


@bp.get("/models", endpoint="models_native")
@bp.get("/v1/models")
@token_auth.login_required
def models() -> ResponseReturnValue:
    """List the models of all engines that are ready, each once: of text, then of images."""
    listed, headers = _list_models()
    response = jsonify(listed)
    response.headers.update(headers)
    return response


@bp.get("/v1/models/<path:model>")
@token_auth.login_required
def one_model(model: str) -> ResponseReturnValue:
    """Return the entry that the list of models has of one; an alias has one, too."""
    listed, headers = _list_models()
    for entry in filter(_has_id, listed["data"]):
        if entry["id"] == model:
            response = jsonify(entry)
            response.headers.update(headers)
            return response
    raise ModelNotFound(model)


def _list_models() -> tuple[dict[str, Any], dict[str, str]]:
    """Return the list of the models that the caller may use, and its headers. Raises EngineNotReady, Forbidden."""
    scopes = g.token.scopes
    images: list[dict[str, Any]] = []
    if SD_SCOPE in scopes:
        images = _list_image_models()
    if images and LLM_SCOPE not in scopes:
        return {"object": "list", "data": images}, {}
    require_scope(LLM_SCOPE)
    try:
        merged, headers = _merge_text_models()
    except NoSuchEngine:
        if not images:
            raise
        return {"object": "list", "data": images}, {}
    return merged | {"data": [*merged["data"], *images]}, headers


def _merge_text_models() -> tuple[dict[str, Any], dict[str, str]]:
    """Return the list of all text engines' models, and its headers. Raises EngineNotReady."""
    workers, headers = services().select_answering(LLM)
    lists: list[dict[str, Any]] = []
    for worker in workers:
        with guarded("models"):
            lists.append(_parse_model_list(worker.model_list, hidden=not is_admin()))
    if not lists:
        services().require_engine(families.LLM)
        raise EngineNotReady
    aliases = parse_aliases(services().settings.model_aliases)
    # An engine answers OpenAI's `data`, and Ollama's `models` beside it.
    merged = lists[0] | {"data": _add_aliases(_merge_entries(lists, "data", "id"), aliases)}
    if "models" in merged:
        merged["models"] = _merge_entries(lists, "models", "model")
    return merged, headers


def _list_image_models() -> list[dict[str, Any]]:
    """Return the checkpoints of all image engines, each once, as ``model`` of an image request may name them."""
    entries: dict[str, dict[str, Any]] = {}
    names: dict[str, str] = {}
    listed: list[Any] = []
    for catalog in services().catalogs().values():
        checkpoints = catalog.get("sd-models")
        for checkpoint in checkpoints if isinstance(checkpoints, list) else []:
            name = checkpoint.get("model_name") if isinstance(checkpoint, dict) else None
            if isinstance(name, str) and name:
                entry = {"id": name, "object": "model", "created": 0, "owned_by": "graycat", "type": "image"}
                entries.setdefault(name, entry)
                names.setdefault(title_of(checkpoint), name)
                listed.append(checkpoint)
    # An alias may stand for any of a checkpoint's names; its entry is found by the one that is listed.
    aliases = {}
    for alias, model in parse_aliases(services().settings.model_aliases).items():
        name = names.get(find_checkpoint(model, listed), "")
        if name:
            aliases[alias] = name
    return _add_aliases(list(entries.values()), aliases)


def _parse_model_list(text: str, *, hidden: bool) -> dict[str, Any]:
    """Return an engine's list of models, ``hidden`` without paths. Raises an error of any type if it is none."""
    model_list = dict(parse_json(text))
    if hidden:
        model_list = dict(hide("/v1/models", model_list))
    for field in ("data", "models"):
        if not isinstance(model_list.get(field, []), list):
            raise TypeError(f"{field} is no list")
    return model_list


def _add_aliases(entries: list[Any], aliases: Mapping[str, str]) -> list[Any]:
    """Return models with an entry for each alias of theirs: some clients ask only for what they find here.

    An alias is in the ``aliases`` of its model as well, which is llama.cpp's own field.
    """
    by_id = {entry["id"]: entry for entry in filter(_has_id, entries)}
    added = []
    for alias, model in aliases.items():
        entry = by_id.get(model)
        if entry is None or alias in by_id:
            continue
        known = entry.get("aliases")
        entry["aliases"] = [*(known if isinstance(known, list) else []), alias]
        added.append(entry | {"id": alias, "aliases": [model]})
    return entries + added


def _is_object(entry: Any) -> bool:
    return isinstance(entry, dict)


def _has_id(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("id"), str)


def _merge_entries(lists: list[dict[str, Any]], field: str, key: str) -> list[Any]:
    """Return the entries of several engines' lists, each ``key`` once; the first engine's entry counts."""
    entries: dict[Any, Any] = {}
    for engine_list in reversed(lists):
        for entry in filter(_is_object, engine_list.get(field, [])):
            entries[str(entry.get(key))] = entry
    return list(entries.values())
