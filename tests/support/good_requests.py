"""For each operation of the OpenAPI document, a request that graycat would accept."""

from __future__ import annotations

import io
import json
from typing import Any

from tests.support.webuis import encoded, picture

#: A body that is accepted is not waited for.
ASYNC = {"Prefer": "respond-async"}
TASK: dict[str, Any] = {"kind": "llm.completion", "input": {"prompt": "Hi"}}
SPEC: dict[str, Any] = {"name": "portraits", "defaults": {"width": 64, "height": 64}, "items": [{"prompt": "a tavern"}]}
SCHEDULE: dict[str, Any] = {"cron": "0 1 * * *", "spec": SPEC}
RED = picture("red")
CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
#: Bodies by path; other operations have none.
BODIES: dict[str, Any] = {
    "/tasks": TASK,
    "/tasks/{chosen_id}": TASK,
    "/batches": SPEC,
    "/schedules": SCHEDULE | {"name": "new"},
    "/schedules/{name}": SCHEDULE | {"cron": "0 2 * * *"},
    "/tokens": {"name": "new", "scopes": ["llm"]},
    "/tokens/player": {"player": "ann"},
    "/tokens/{prefix}/rotate": {},
    "/completion": {"prompt": "Hi"},
    "/completions": {"prompt": "Hi"},
    "/v1/completions": {"prompt": "Hi"},
    "/chat/completions": CHAT,
    "/v1/chat/completions": CHAT,
    "/chat/completions/input_tokens": CHAT,
    "/v1/chat/completions/input_tokens": CHAT,
    "/v1/messages": CHAT | {"max_tokens": 5},
    "/v1/messages/count_tokens": CHAT,
    "/v1/responses": {"input": "Hi"},
    "/v1/responses/input_tokens": {"input": "Hi"},
    "/responses": {"input": "Hi"},
    "/responses/input_tokens": {"input": "Hi"},
    "/apply-template": CHAT,
    "/tokenize": {"content": "Hi"},
    "/detokenize": {"tokens": [1]},
    "/embedding": {"content": "Hi"},
    "/embeddings": {"content": "Hi"},
    "/v1/embeddings": {"input": "Hi"},
    "/infill": {"input_prefix": "a", "input_suffix": "b"},
    "/lora-adapters": [],
    "/generate-image": {"prompt": "a fox"},
    "/v1/images/generations": {"prompt": "a fox"},
    "/sdapi/v1/txt2img": {"prompt": "a fox"},
    "/sdapi/v1/img2img": {"prompt": "a fox", "init_images": [encoded(RED)]},
    "/sdapi/v1/extra-single-image": {"image": encoded(RED)},
    "/sdapi/v1/extra-batch-images": {"imageList": [{"data": encoded(RED), "name": "a.png"}]},
    "/sdapi/v1/interrogate": {"image": encoded(RED)},
    "/sdapi/v1/png-info": {"image": encoded(RED)},
    **dict.fromkeys(
        ("/rerank", "/reranking", "/v1/rerank", "/v1/reranking"), {"query": "a fox", "documents": ["a", "b"]}
    ),
}


def parts(method: str, path: str) -> dict[str, Any]:
    """Return the arguments of Flask's test client for an operation's request."""
    if method == "POST" and path == "/v1/images/edits":
        data = {"prompt": "a fox", "image": (io.BytesIO(RED), "image.png")}
        return {"data": data, "content_type": "multipart/form-data", "headers": ASYNC}
    if method in ("POST", "PUT") and path in BODIES:
        return {"data": json.dumps(BODIES[path]), "content_type": "application/json", "headers": ASYNC}
    return {"headers": ASYNC}


def fill(path: str, names: dict[str, str]) -> str:
    """Return a path with its variables replaced."""
    filled = []
    for part in path.split("/"):
        name = part.strip("{}")
        if name == part:
            filled.append(part)
        else:
            filled.append(names[name])
    return "/".join(filled)
