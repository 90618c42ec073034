"""The text in what engines answer, whole or in chunks: llama.cpp's own wire, OpenAI's and Anthropic's."""

from __future__ import annotations

from typing import Any


def text_of_answer(answer: Any) -> str:
    """Return the text of a whole answer; '' where it has none."""
    if not isinstance(answer, dict):
        return ""
    if isinstance(answer.get("choices"), list):
        return "".join(_of_choice(choice, "message") for choice in answer["choices"][:1])
    if isinstance(answer.get("output"), list):
        # OpenAI's responses: messages among reasoning and tool calls.
        return "".join(_joined(item.get("content")) for item in answer["output"] if isinstance(item, dict))
    return _joined(answer.get("content"))


def text_of_chunk(data: Any) -> str:
    """Return the text that one event of a stream adds."""
    if not isinstance(data, dict):
        return ""
    if "event" in data and "data" in data:
        return _of_named(data["event"], data["data"])
    if isinstance(data.get("choices"), list):
        return "".join(_of_choice(choice, "delta") for choice in data["choices"][:1])
    return _text(data.get("content"))


def _of_choice(choice: Any, field: str) -> str:
    if not isinstance(choice, dict):
        return ""
    message = choice.get(field)
    return _text(choice.get("text")) or (_joined(message.get("content")) if isinstance(message, dict) else "")


def _of_named(name: Any, data: Any) -> str:
    delta = data.get("delta") if isinstance(data, dict) else None
    if name == "response.output_text.delta":
        return _text(delta)
    if name == "content_block_delta" and isinstance(delta, dict):
        return _text(delta.get("text"))
    return ""


def _joined(content: Any) -> str:
    """Return a content's text: it is one, or a list of parts that may have some."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    return _text(content)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
