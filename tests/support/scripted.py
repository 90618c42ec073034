"""Answers of a scripted server: errors, other servers' answers, lines of events."""

from __future__ import annotations

import json
from typing import Any

from tests.support.servers import Answer, Handler


def respond_with(status: int, value: Any = None, **headers: str) -> Answer:
    """Return an answer with headers (``Retry_After`` is ``Retry-After``). A value other than bytes is sent as JSON."""

    def answer(handler: Handler) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        handler.send_response(status)
        for name, text in headers.items():
            handler.send_header(name.replace("_", "-"), text)
        if status not in (204, 304):
            handler.send_header("Content-Length", str(len(body)))
        handler.send_header("Connection", "close")
        handler.end_headers()
        if status not in (204, 304):
            handler.wfile.write(body)

    return answer


def respond_in_turn(*answers: Answer, seen: list[dict[str, str]] | None = None) -> Answer:
    """Return an answer that gives these in turn, the last one repeatedly; ``seen`` gets the headers of the requests."""
    rest = list(answers)

    def answer(handler: Handler) -> None:
        if seen is not None:
            seen.append({name.title(): value for name, value in handler.headers.items()})
        current = rest[0]
        if len(rest) > 1:
            rest.pop(0)
        current(handler)

    return answer


def error(status: int, type: str, **headers: str) -> Answer:
    """Return one of graycat's errors."""
    return respond_with(status, {"error": {"code": status, "message": f"it is {type}", "type": type}}, **headers)


def line(event_id: str, kind: str, data: Any) -> bytes:
    """Return an event as a line of a task's events."""
    return json.dumps({"id": event_id, "event": kind, "data": data}).encode() + b"\n"
