"""What an engine's error says, in one form: engines write it in several, and some write nothing.

- llama.cpp and graycat: ``{"error": {"code": 400, "message": "...", "type": "..."}}``
- the SD WebUI (https://github.com/AUTOMATIC1111/stable-diffusion-webui): ``{"error": "KeyError", "detail": "", "body":
  "", "errors": "..."}``; FastAPI below it: ``{"detail": "..."}``, and for a wrong body ``{"detail": [{"loc": ["body",
  "steps"], "msg": "..."}]}``
- sd-server of stable-diffusion.cpp: ``{"error": "prompt required"}``
- any of them behind a proxy, or in trouble: text, HTML, ``null`` or nothing
"""

from __future__ import annotations

import json
from typing import Any

from graycat.bounds.stored import parse_json

#: The type of an error of which an engine tells none.
ENGINE_ERROR = "engine_error"
#: That of one which says nothing at all.
ENGINE_SILENT = "engine_silent"
#: Characters of an engine's own words.
MAX_CHARS = 500


def read_error(status: int, body: bytes) -> dict[str, Any]:
    """Return an error as ``{"code", "type", "message"}``, with what else the engine says of it; none is null or ''."""
    try:
        value = parse_json(body)
    except ValueError:
        value = body.decode(errors="replace")
    fields: dict[str, Any] = {}
    if isinstance(value, dict) and isinstance(value.get("error"), dict):
        fields = value["error"]
        message = _text(fields.get("message")) or _text(fields)
    else:
        message = _words(value)[:MAX_CHARS]
    kind = _text(fields.get("type")) or ENGINE_ERROR
    if not message:
        kind = ENGINE_SILENT
        message = f"the engine answered {status} and did not say why; the operator finds more in its log"
    return fields | {"code": fields.get("code") or status, "type": kind, "message": message}


def _words(value: Any) -> str:
    """Return what an error's body says, '' if that is nothing."""
    if not isinstance(value, dict):
        return _text(value)
    parts = [_text(value.get("error")), _details(value.get("detail")), _text(value.get("errors"))]
    said = ": ".join(part for part in parts if part)
    return said or _text({name: part for name, part in value.items() if part})


def _details(detail: Any) -> str:
    """Return FastAPI's ``detail``: a text, or a list of problems with the paths of their fields."""
    if not isinstance(detail, list):
        return _text(detail)
    problems = []
    for problem in detail:
        if isinstance(problem, dict) and isinstance(problem.get("loc"), list):
            path = ".".join(map(str, problem["loc"]))
            problems.append(f"{path}: {_text(problem.get('msg'))}")
        else:
            problems.append(_text(problem))
    return "; ".join(problems)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    if not value:
        return ""
    return json.dumps(value)
