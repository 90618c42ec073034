"""Requests to the bare engine and to graycat, and their answers without what differs between any two runs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from tests.support.stack import Client

#: One engine, one seed, no cache: the same request has the same answer.
SETTLED: dict[str, Any] = {"temperature": 0, "seed": 1, "cache_prompt": False}

#: What differs between two runs of one request, by field.
FLEETING = {
    "timings": "how long it took",
    "created": "when",
    "created_at": "when",
    "completed_at": "when",
    "id_slot": "which slot was free",
    "id_task": "the engine's own count",
    "tokens_cached": "what the slot held before",
    "cached_tokens": "what the slot held before",
    "prompt_progress": "how long it took, and what the slot held before",
}
#: Ids that the engine draws: of an answer, of a part of it, of a tool call.
DRAWN = re.compile(r"((chatcmpl|resp|msg|rs|fc|call)[-_])?[A-Za-z0-9]{32}")
#: What keeps a stream alive that waits long, as on a busy machine: blank lines, or comments. It has a test of its own.
KEEPALIVES = re.compile(r"\A\n+|(?<=\n\n)\n+|^: keep-alive\n\n", re.MULTILINE)


@dataclass(frozen=True)
class Ask:
    """A request to both. ``data``: the bytes of a body that is no JSON; ``row``: where in the document it differs."""

    path: str
    body: Any = None
    method: str = "POST"
    data: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    row: str = ""

    def send(self, client: Client) -> requests.Response:
        """Send it; return the answer, read to its end."""
        options: dict[str, Any] = {"data": self.data} if self.data is not None else {"json": self.body}
        if self.method == "GET" and self.body is None:
            options = {}
        return client.request(self.method, self.path, headers=dict(self.headers), **options)


@dataclass
class Wire:
    """An answer: its status, the kind of its content, and the content: JSON, or a stream's events."""

    status: int
    kind: str
    content: Any

    @property
    def error(self) -> str:
        """Return the type of an error."""
        return str(self.content["error"]["type"])


def read(answer: requests.Response) -> Wire:
    """Return an answer as it compares."""
    kind = answer.headers.get("Content-Type", "").partition(";")[0]
    if kind == "text/event-stream":
        return Wire(answer.status_code, kind, [_event(text) for text in KEEPALIVES.sub("", answer.text).split("\n\n")])
    content = settled(answer.json()) if kind == "application/json" and answer.content else answer.text
    return Wire(answer.status_code, kind, content)


def _event(text: str) -> tuple[str, Any]:
    """Return what stands before an event's data, and the data."""
    head, found, data = text.partition("data: ")
    return head + found, settled(json.loads(data)) if data and data != "[DONE]" else data


def settled(value: Any, name: str = "") -> Any:
    """Return a value without what differs between two runs."""
    if isinstance(value, list):
        return [settled(part) for part in value]
    if not isinstance(value, dict):
        drawn = name.endswith("id") and isinstance(value, str) and DRAWN.fullmatch(value)
        return "drawn" if drawn else value
    if "cache_read_input_tokens" in value:
        # Anthropic's count leaves out what the slot held before.
        value = value | {"input_tokens": value["input_tokens"] + value["cache_read_input_tokens"]}
        del value["cache_read_input_tokens"]
    return {key: settled(part, key) for key, part in value.items() if key not in FLEETING}
