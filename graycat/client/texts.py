"""The text in what engines answer, whole or in chunks: in llama.cpp's own format, OpenAI's and Anthropic's."""

from __future__ import annotations

from typing import Any


def answer_text(answer: Any) -> str:
    """Return the text of a whole answer; '' if it has none."""
    if not isinstance(answer, dict):
        return ""
    if isinstance(answer.get("choices"), list):
        return _first_choice_text(answer["choices"], "message")
    if isinstance(answer.get("output"), list):
        # OpenAI's responses: messages among reasoning and tool calls.
        return "".join(_content_text(item.get("content")) for item in answer["output"] if isinstance(item, dict))
    return _content_text(answer.get("content"))


def chunk_text(data: Any) -> str:
    """Return the text that one event of a stream adds."""
    if not isinstance(data, dict):
        return ""
    if "event" in data and "data" in data:
        return _named_event_text(data["event"], data["data"])
    if isinstance(data.get("choices"), list):
        return _first_choice_text(data["choices"], "delta")
    return _string(data.get("content"))


def _first_choice_text(choices: list[Any], field: str) -> str:
    """Return the text of the first choice: its own, or that of the message in ``field``."""
    if not choices or not isinstance(choices[0], dict):
        return ""
    choice = choices[0]
    text = _string(choice.get("text"))
    message = choice.get(field)
    if text or not isinstance(message, dict):
        return text
    return _content_text(message.get("content"))


def _named_event_text(name: Any, data: Any) -> str:
    """Return the text of an event that has a name: OpenAI's responses and Anthropic's messages."""
    if not isinstance(data, dict):
        return ""
    delta = data.get("delta")
    if name == "response.output_text.delta":
        return _string(delta)
    if name == "content_block_delta" and isinstance(delta, dict):
        return _string(delta.get("text"))
    return ""


def _content_text(content: Any) -> str:
    """Return a content's text: it is a string, or a list of parts that may have texts."""
    if isinstance(content, list):
        return "".join(_string(part.get("text")) for part in content if isinstance(part, dict))
    return _string(content)


def _string(value: Any) -> str:
    """Return a string; '' for a value of another type."""
    if isinstance(value, str):
        return value
    return ""
