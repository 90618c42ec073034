"""What an engine would leave out of a text request without a word: its caller is told in place of that.

Seen on llama.cpp build 11549 (docs/differences.md has what is left out and harmless).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from graycat.bounds.stored import parse_json
from graycat.errors import UnsupportedParameter
from graycat.fleet.reports import WorkerStatus
from graycat.queue.kinds import (
    APPLY_TEMPLATE,
    CHAT,
    COMPLETION,
    COUNT_CHAT,
    COUNT_MESSAGES,
    COUNT_RESPONSES,
    INFILL,
    MESSAGES,
    OPENAI_COMPLETION,
    RESPONSES,
    Kind,
)

Body = dict[str, Any]

#: Kinds whose prompt is written by the model's chat template, and so its tools.
_TEMPLATED = frozenset({CHAT, COUNT_CHAT, RESPONSES, COUNT_RESPONSES, MESSAGES, COUNT_MESSAGES, APPLY_TEMPLATE})
#: Kinds that know ``json_schema`` and ``grammar`` alone.
_PLAIN = frozenset({COMPLETION, INFILL, OPENAI_COMPLETION})

#: Parts of Anthropic's messages. Redacted thoughts are passed over, too: clients send back what nobody can read.
_PARTS = frozenset({"text", "image", "tool_use", "tool_result", "thinking", "redacted_thinking"})


def check_supported(kind: Kind, body: Body, workers: Sequence[WorkerStatus]) -> None:
    """Raise UnsupportedParameter for what an engine would leave out. ``workers``: any of these may answer."""
    if kind in _TEMPLATED:
        if wants_tools(body):
            _check_tools(workers)
        if body.get("functions"):
            raise UnsupportedParameter("functions", "no engine knows it any more; send 'tools'")
        _check_output(body)
    elif kind in _PLAIN:
        _check_plain(kind, body)
    if kind in (MESSAGES, COUNT_MESSAGES):
        _check_parts(body.get("messages"))


def wants_tools(body: Body) -> bool:
    """Return whether a request offers tools that the model may use. An engine refuses what is no list by itself."""
    if body.get("tool_choice") in ("none", {"type": "none"}):
        return False
    tools = body.get("tools")
    return isinstance(tools, list) and bool(tools)


def _check_tools(workers: Sequence[WorkerStatus]) -> None:
    """Refuse tools if one of the models that may answer has a template without a place for them."""
    lacking = [worker for worker in workers if not knows_tools(worker.props)]
    if not lacking:
        return
    knowing = sorted({model for worker in workers if worker not in lacking for model in worker.models})
    names = sorted({model for worker in lacking for model in worker.models})
    advice = "leave the field out, or send tool_choice 'none'"
    if knowing:
        advice = f"name a model that has one ({', '.join(knowing)[:200]})"
    raise UnsupportedParameter(
        "tools",
        f"the chat template of {', '.join(names)[:200]} has no place for tools, the model would not see them; {advice}",
    )


@lru_cache(maxsize=64)
def knows_tools(props: str) -> bool:
    """Return whether an engine's model is shown tools; True if its properties (``/props``, JSON) do not say.

    llama.cpp tries the template out when it loads the model and tells the result in ``chat_template_caps``.
    """
    try:
        caps = parse_json(props).get("chat_template_caps")
    except (ValueError, AttributeError):
        return True
    return not (isinstance(caps, dict) and caps.get("supports_tools") is False)


def _check_output(body: Body) -> None:
    output = body.get("response_format")
    if output is not None and not isinstance(output, dict):
        raise UnsupportedParameter(
            "response_format", "must be an object with a 'type'; the engine leaves out any other"
        )
    modalities = body.get("modalities")
    if isinstance(modalities, list) and "audio" in modalities:
        raise UnsupportedParameter("modalities", "no engine answers with audio; ask for text alone")


def _check_plain(kind: Kind, body: Body) -> None:
    output = body.get("response_format")
    if output is not None and not (isinstance(output, dict) and output.get("type") == "text"):
        raise UnsupportedParameter("response_format", "this route does not know it; send 'json_schema' or 'grammar'")
    if kind is not OPENAI_COMPLETION:
        return
    if body.get("echo"):
        raise UnsupportedParameter("echo", "the engine does not repeat the prompt; leave it out")
    if body.get("suffix"):
        raise UnsupportedParameter("suffix", "this route does not know it; POST /infill fills in before a suffix")
    best_of = body.get("best_of")
    if isinstance(best_of, int) and best_of > 1:
        raise UnsupportedParameter("best_of", "the engine makes no further answers to choose from; send 'n'")


def _check_parts(messages: Any) -> None:
    """Refuse parts of an Anthropic message that llama.cpp passes over: documents, and all unknown ones."""
    for number, message in enumerate(messages if isinstance(messages, list) else []):
        parts = message.get("content") if isinstance(message, dict) else None
        for index, part in enumerate(parts if isinstance(parts, list) else []):
            if not isinstance(part, dict):
                continue
            kind = part.get("type")
            if isinstance(kind, str) and kind in _PARTS:
                continue
            path = f"messages[{number}].content[{index}]"
            if kind == "document":
                raise UnsupportedParameter(path, "no engine reads documents; send their text")
            raise UnsupportedParameter(
                f"{path}.type", f"the engine reads parts of type {', '.join(sorted(_PARTS))} alone"
            )
