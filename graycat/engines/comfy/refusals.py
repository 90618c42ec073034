"""ComfyUI's errors as graycat tells them: which input is wrong and how. Its messages hold paths and tracebacks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from graycat.engines.comfy.wire import History

#: What the types of errors mean, in words; any other is told by its type.
_REASONS = {
    "required_input_missing": "is required",
    "invalid_input_type": "has the wrong type",
    "value_smaller_than_min": "is smaller than the engine allows",
    "value_bigger_than_max": "is larger than the engine allows",
    "value_not_in_list": "is none of the engine's choices",
    "return_type_mismatch": "is linked to an output of another type",
    "custom_validation_failed": "is not accepted by its node",
    "exception_during_validation": "cannot be validated",
    "dependency_cycle": "depends on itself",
    "bad_linked_input": "has a link that is none",
    "exception_during_inner_validation": "cannot be validated",
    "invalid_dynamic_input": "has the wrong form",
}
#: The most problems that are told.
MAX_PROBLEMS = 5
_WORD = re.compile(r"[\w.:+ -]{1,100}")


def error_body(status: int, message: str, code: str) -> tuple[int, bytes]:
    """Return status and body of an error in graycat's own form."""
    return status, json.dumps({"error": {"code": status, "message": message, "type": code}}).encode()


def refusal(status: int, answer: Any, workflow: Mapping[str, Any]) -> tuple[int, bytes]:
    """Return status and body for a workflow that was refused. ``answer``: None if it was not JSON."""
    if status == 413:
        return error_body(413, "the engine takes no request of this size", "body_too_large")
    if status >= 500 or not isinstance(answer, dict):
        return error_body(502, "the engine could not take the workflow; tell the operator", "engine_error")
    problems = list(_problems(answer.get("node_errors"), workflow))
    if problems:
        return error_body(400, "; ".join(problems[:MAX_PROBLEMS]), "workflow_refused")
    error = answer.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    return error_body(400, f"the engine refuses the workflow: {_word(kind) or 'no reason'}", "workflow_refused")


def _problems(node_errors: Any, workflow: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(node_errors, dict):
        return
    for node, entry in node_errors.items():
        errors = entry.get("errors") if isinstance(entry, dict) else None
        for error in errors if isinstance(errors, list) else ():
            if not isinstance(error, dict):
                continue
            kind = str(error.get("type"))
            extra = error.get("extra_info")
            name = _word(extra.get("input_name")) if isinstance(extra, dict) else ""
            class_type = workflow.get(node, {}).get("class_type", "")
            where = f"{_word(class_type)} ({_word(node)})"
            yield f"{where}: {name or 'its input'!r} {_REASONS.get(kind, _word(kind) or 'is refused')}"


def failure(history: History) -> tuple[int, bytes]:
    """Return status and body for a prompt that failed while it ran."""
    where = f"the node {history.failed_class} ({history.failed_node})" if history.failed_class else "the workflow"
    if "outofmemory" in history.exception.lower():
        return error_body(
            500, f"{where} ran out of memory: ask for a smaller image, or fewer at once", "engine_out_of_memory"
        )
    what = f" with {history.exception}" if history.exception else ""
    return error_body(500, f"{where} failed{what}; the engine's log says why", "engine_error")


def _word(value: Any) -> str:
    text = str(value or "")
    return text if _WORD.fullmatch(text) else ""
