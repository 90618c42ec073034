"""The schemas of successful answers in the OpenAPI document.

Of engines' answers they name what callers read; engines add more, and graycat passes all of it on.
"""

from __future__ import annotations

from typing import Any

from graycat.web.openapi.components import JSON

_TEXT: dict[str, Any] = {"type": "string"}
_INTEGER: dict[str, Any] = {"type": "integer"}
_NUMBER: dict[str, Any] = {"type": "number"}
_BOOLEAN: dict[str, Any] = {"type": "boolean"}
_OBJECT: dict[str, Any] = {"type": "object"}
_TEXT_OR_NULL: dict[str, Any] = {"type": ["string", "null"]}
_INTEGER_OR_NULL: dict[str, Any] = {"type": ["integer", "null"]}


def _object(required: str, **properties: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required.split()
    return schema


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


_USAGE = _object("", prompt_tokens=_INTEGER, completion_tokens=_INTEGER, total_tokens=_INTEGER)
_MESSAGE = _object("role", role=_TEXT, content=_TEXT_OR_NULL, tool_calls=_list(_OBJECT))
_CHOICE = _object("message", index=_INTEGER, message=_MESSAGE, finish_reason=_TEXT_OR_NULL)
_VECTORS = _list(_object("embedding", index=_INTEGER, embedding={"anyOf": [_list(_NUMBER), _TEXT]}))
_WARNINGS = _list(_TEXT) | {"description": "Where the picture is not what was asked for."}
_TEXT_CHOICE = _object("text", index=_INTEGER, text=_TEXT, finish_reason=_TEXT_OR_NULL)
_SCORED = _object("index relevance_score", index=_INTEGER, relevance_score=_NUMBER)
_TOKEN_FIELDS = {
    "prefix": _TEXT | {"description": "The public part of the API token; it names the token in other routes."},
    "name": _TEXT,
    "scopes": _list(_TEXT),
    "limits": _OBJECT,
    "created_at": _INTEGER | {"description": "Seconds since 1970."},
    **dict.fromkeys(("expires_at", "former_until", "last_used_at"), _INTEGER_OR_NULL),
}
_SECRET = {"token": _TEXT | {"description": "The secret; no other answer has it."}}

#: The schemas that answers refer to.
SCHEMAS: dict[str, dict[str, Any]] = {
    "AcceptedTask": _object("id state links", id=_TEXT, state=_TEXT, links=_object("self", self=_TEXT)),
    "Completion": _object(
        "content",
        content=_TEXT,
        stop=_BOOLEAN,
        stop_type=_TEXT,
        tokens_predicted=_INTEGER,
        tokens_evaluated=_INTEGER,
        truncated=_BOOLEAN,
        timings=_OBJECT,
    ),
    "ChatCompletion": _object(
        "choices", id=_TEXT, object=_TEXT, created=_INTEGER, model=_TEXT, choices=_list(_CHOICE), usage=_USAGE
    ),
    "TextCompletion": _object(
        "choices", id=_TEXT, object=_TEXT, created=_INTEGER, model=_TEXT, choices=_list(_TEXT_CHOICE), usage=_USAGE
    ),
    "EmbeddingList": _object("data", object=_TEXT, model=_TEXT, data=_VECTORS, usage=_USAGE),
    "Model": _object("id", id=_TEXT, object=_TEXT, created=_INTEGER, owned_by=_TEXT, aliases=_list(_TEXT)),
    "ModelList": _object("data", object=_TEXT, data=_list(_ref("Model"))),
    "WebuiImages": _object(
        "images",
        images=_list(_TEXT) | {"description": "Files in base64."},
        parameters=_OBJECT,
        info=_TEXT | {"description": "JSON in a text, as the WebUI sends it."},
        warnings=_WARNINGS,
    ),
    "OpenaiImages": _object(
        "created data",
        created=_INTEGER,
        data=_list(_object("", b64_json=_TEXT, url=_TEXT)),
        output_format=_TEXT,
        warnings=_WARNINGS,
    ),
    "Readiness": _object(
        "ready reason workers", ready=_BOOLEAN, reason=_TEXT, notes=_list(_TEXT), workers=_list(_OBJECT)
    ),
    "ApiToken": {"type": "object", "properties": _TOKEN_FIELDS, "required": ["prefix", "name", "scopes"]},
    "NewApiToken": {
        "type": "object",
        "properties": _SECRET | _TOKEN_FIELDS,
        "required": ["token", "prefix", "name", "scopes"],
    },
}
_LIVE = _object("status", status=_TEXT)
_DONE = _object("name message", name=_TEXT, message=_TEXT)
_COUNT = _object("input_tokens", input_tokens=_INTEGER)
_IMAGES, _OPENAI_IMAGES = _ref("WebuiImages"), _ref("OpenaiImages")
_ANSWERS: dict[str, dict[str, Any]] = {
    # A list of prompts is answered by a list.
    "llamacpp.completion": {"anyOf": [_ref("Completion"), _list(_ref("Completion"))]},
    "llamacpp.infill": {"anyOf": [_ref("Completion"), _list(_ref("Completion"))]},
    "llamacpp.tokenize": _object("tokens", tokens=_list({})),
    "llamacpp.detokenize": _object("content", content=_TEXT),
    "llamacpp.apply_template": _object("prompt", prompt=_TEXT),
    # With `texts` instead of `documents`, the answer is a list.
    "llamacpp.rerank": {"anyOf": [_object("results", model=_TEXT, results=_list(_SCORED)), _list(_OBJECT)]},
    "llamacpp.slots": _list(_OBJECT),
    "llamacpp.lora_adapters": _list(_OBJECT),
    "llamacpp.template": _object("template", template=_TEXT),
    "llamacpp.props": _OBJECT,
    "openai.chat": _ref("ChatCompletion"),
    "openai.openai_completion": _ref("TextCompletion"),
    "openai.openai_embeddings": _ref("EmbeddingList"),
    "openai.responses": _object("id output", id=_TEXT, status=_TEXT, model=_TEXT, output=_list(_OBJECT)),
    "openai.count_chat": _COUNT,
    "openai.count_responses": _COUNT,
    "openai.models": _ref("ModelList"),
    "openai.one_model": _ref("Model"),
    "anthropic.messages": _object(
        "content", id=_TEXT, role=_TEXT, content=_list(_OBJECT), stop_reason=_TEXT_OR_NULL, usage=_OBJECT
    ),
    "anthropic.count_messages": _COUNT,
    "sdapi.txt2img": _IMAGES,
    "sdapi.img2img": _IMAGES,
    "sdapi.extra_single": _object("image", image=_TEXT, html_info=_TEXT),
    "sdapi.extra_batch": _object("images", images=_list(_TEXT), html_info=_TEXT),
    "sdapi.interrogate": _object("caption", caption=_TEXT),
    "sdapi.png_info": _object("info", info=_TEXT, items=_OBJECT, parameters=_OBJECT),
    "sdapi.progress": _object(
        "progress", progress=_NUMBER, eta_relative=_NUMBER, state=_OBJECT, current_image=_TEXT_OR_NULL
    ),
    "sdapi.list_options": _OBJECT,
    "sdapi.list_scripts": _OBJECT,
    "sdapi.list_embeddings": _OBJECT,
    "images.generate_image": _object(
        "image_base64 info", image_base64=_TEXT, info=_OBJECT, task_id=_TEXT, warnings=_WARNINGS
    ),
    "images.generations": _OPENAI_IMAGES,
    "images.edits": _OPENAI_IMAGES,
    "workflows.listing": _object(
        "workflows",
        workflows=_list(
            _object("name kind input", name=_TEXT, kind=_TEXT, input=_OBJECT, available=_BOOLEAN, reason=_TEXT)
        ),
    ),
    "health.live": _LIVE,
    "health.engine": _LIVE,
    "health.web": _object("status", status=_TEXT, reason=_TEXT),
    "health.ready": _ref("Readiness"),
    "metrics.status": _OBJECT,
    **dict.fromkeys(("fleet.pause_queue", "fleet.resume_queue", "fleet.pause_worker", "fleet.resume_worker"), _DONE),
    "fleet.drain_worker": _DONE,
    "openapi.document": _OBJECT,
    "webhooks.secret": _object("secret", secret=_TEXT),
    "gallery.sign_link": _object("url expires_at", url=_TEXT, expires_at=_INTEGER),
    "gallery.state": _object(
        "summary over total live cards",
        summary=_TEXT, over=_INTEGER, total=_INTEGER, live=_BOOLEAN, cards=_list(_OBJECT),
    ),
}  # fmt: skip
#: Answers that are the engine's own, of any form.
_ENGINES_OWN = frozenset(
    {"llamacpp.embeddings", "llamacpp.set_lora_adapters", "sdapi.set_options", "sdapi.interrupt", "sdapi.skip"}
    | {f"sdapi.refresh_{name}" for name in ("checkpoints", "vae", "loras", "embeddings")}
    | {f"sdapi.{name}_checkpoint" for name in ("unload", "reload")}
)
#: 503 of these says how the workers are; it is no error of graycat's form.
_UNREADY = ("health.ready", "health.web")


def add(endpoint: str, responses: dict[str, Any]) -> None:
    """Put schemas into the responses of an operation where there are none."""
    schema = _ANSWERS.get(endpoint)
    if schema is None and endpoint.startswith("sdapi.list_"):
        schema = _list({})
    elif schema is None and endpoint in _ENGINES_OWN:
        schema = {"description": "What the engine answers."}
    for status, found in (("200", schema), ("202", _ref("AcceptedTask"))):
        media = responses.get(status, {}).get("content", {}).get(JSON)
        if media is not None and found is not None:
            media.setdefault("schema", found)
    if endpoint in _UNREADY and schema is not None:
        responses["503"]["content"] = {JSON: {"schema": schema}}
