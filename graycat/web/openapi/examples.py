"""An example of each operation in the OpenAPI document: its body, the values of its path, and a command to copy."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from graycat.web.openapi.image_fields import FORM

#: A variable part of a path, as the document writes it.
_VARIABLE = re.compile(r"{(\w+)}")
#: A PNG of one pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"

_CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Name three cats."}],
    "max_tokens": 32,
}
_COUNTED_CHAT = {"messages": _CHAT["messages"]}
_RESPONSE = {"input": "Name three cats.", "max_output_tokens": 32}
_RERANK = {"query": "a fox", "documents": ["The fox jumps.", "It rains."]}
_TASK: dict[str, Any] = {"kind": "llm.completion", "input": {"prompt": "Once upon a time", "n_predict": 16}}
_SPEC: dict[str, Any] = {
    "name": "portraits",
    "defaults": {"width": 512, "height": 512},
    "items": [{"prompt": "a knight"}, {"prompt": "a thief"}],
}
_SCHEDULE: dict[str, Any] = {"cron": "0 1 * * *", "timezone": "Europe/Berlin", "spec": _SPEC}
_IMAGE = {"prompt": "a lighthouse", "width": 512, "height": 512, "steps": 20}

#: The body of each operation that takes one, by its path.
BODIES: dict[str, Any] = {
    "/completion": {"prompt": "Once upon a time", "n_predict": 16},
    "/infill": {"input_prefix": "def add(a, b):\n    return ", "input_suffix": "\n", "n_predict": 16},
    "/embeddings": {"content": "hello world"},
    "/rerank": _RERANK,
    "/tokenize": {"content": "hello world"},
    "/detokenize": {"tokens": [1]},
    "/apply-template": _COUNTED_CHAT,
    "/lora-adapters": [],
    "/v1/chat/completions": _CHAT,
    "/v1/completions": {"prompt": "Once upon a time", "max_tokens": 16},
    "/v1/embeddings": {"input": "hello world"},
    "/v1/responses": _RESPONSE,
    "/v1/chat/completions/input_tokens": _COUNTED_CHAT,
    "/v1/responses/input_tokens": {"input": "Name three cats."},
    "/v1/messages": _CHAT,
    "/v1/messages/count_tokens": _COUNTED_CHAT,
    "/tasks": _TASK,
    "/tasks/{chosen_id}": _TASK,
    "/batches": _SPEC,
    "/batches/{batch_id}/gallery/link": {"ttl_s": 3600},
    "/schedules": {"name": "nightly", **_SCHEDULE},
    "/schedules/{name}": _SCHEDULE,
    "/tokens": {"name": "game-server", "scopes": ["llm", "sd"]},
    "/tokens/player": {"player": "ann", "ttl_s": 3600},
    "/tokens/{prefix}/rotate": {"overlap_s": 3600},
    "/workers/{worker}/drain": {"limit_s": 60},
    "/generate-image": {"prompt": "a lighthouse"},
    "/v1/images/generations": {"prompt": "a lighthouse", "size": "512x512"},
    "/v1/images/edits": {"prompt": "a lighthouse at night", "image": PNG},
    "/sdapi/v1/txt2img": _IMAGE,
    "/sdapi/v1/img2img": {"prompt": "a lighthouse", "init_images": [PNG], "denoising_strength": 0.6},
    "/sdapi/v1/extra-single-image": {"image": PNG, "upscaling_resize": 2, "upscaler_1": "Lanczos"},
    "/sdapi/v1/extra-batch-images": {"imageList": [{"data": PNG, "name": "a.png"}], "upscaling_resize": 2},
    "/sdapi/v1/interrogate": {"image": PNG},
    "/sdapi/v1/png-info": {"image": PNG},
    "/sdapi/v1/options": {},
}
#: The values of variables in paths: what the examples above make, if they can choose its name.
PATH_VALUES: dict[str, Any] = {
    "chosen_id": "example-1",
    "task_id": "example-1",
    "batch_id": "BATCH_ID",
    "name": "nightly",
    "prefix": "game-server",
    "model": "MODEL",
    "queue": "sd.batch",
    "worker": "llm@box7",
}


def path_value(name: str, path: str) -> Any:
    """Return the value of a variable in a path. Images of tasks are counted from 0, items of batches from 1."""
    if name == "number":
        return 0 if path.startswith("/tasks/") else 1
    return PATH_VALUES[name]


def add(operation: dict[str, Any], method: str, path: str, canonical: str) -> None:
    """Put examples into an operation. ``canonical``: the first path of an operation that has several."""
    for parameter in operation["parameters"]:
        if parameter["in"] == "path":
            parameter["example"] = path_value(parameter["name"], path)
    for media in operation.get("requestBody", {}).get("content", {}).values():
        if canonical in BODIES:
            media["example"] = BODIES[canonical]
    operation["x-codeSamples"] = [{"lang": "Shell", "label": "curl", "source": curl(operation, method, path)}]


def curl(operation: dict[str, Any], method: str, path: str) -> str:
    """Return a command that sends the example. It reads the server's address and the API token from variables."""
    address = _VARIABLE.sub(lambda found: str(path_value(found[1], path)), path)
    content = operation.get("requestBody", {}).get("content", {})
    options = ""
    if method != ("POST" if content else "GET"):
        options = f" -X {method}"
    elif "text/event-stream" in operation["responses"].get("200", {}).get("content", {}) and not content:
        options = " -N"
    parts = [f'curl{options} "$GRAYCAT{address}"']
    if operation.get("security") != []:
        parts.append('-H "Authorization: Bearer $TOKEN"')
    for content_type, media in content.items():
        parts += _body_options(content_type, media.get("example", {}))
    return " \\\n  ".join(parts)


def _body_options(content_type: str, example: Any) -> list[str]:
    if content_type == FORM:
        return [f"-F {name}={_form_value(name, value)}" for name, value in example.items()]
    return ['-H "Content-Type: application/json"', "-d " + shlex.quote(json.dumps(example, ensure_ascii=False))]


def _form_value(name: str, value: str) -> str:
    if name == "image":
        return "@image.png"
    return shlex.quote(value)
