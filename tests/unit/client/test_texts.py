from __future__ import annotations

from typing import Any

import pytest

from graycat.client.texts import answer_text, chunk_text


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"content": "Hello"}, "Hello"),
        (
            {"choices": [{"message": {"role": "assistant", "content": "Hello"}}, {"message": {"content": "Hi"}}]},
            "Hello",
        ),
        ({"choices": [{"text": "Hello"}]}, "Hello"),
        ({"content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]}, "Hello"),
        ({"output": [{"type": "reasoning"}, {"content": [{"type": "output_text", "text": "Hello"}]}]}, "Hello"),
        ({"choices": [{"message": {"content": None, "tool_calls": []}}]}, ""),
        ({"tokens": [1, 2]}, ""),
        ({"choices": []}, ""),
        ([[0.1]], ""),
        (None, ""),
    ],
)
def test_an_answer_s_text_is_found_on_every_wire(answer: Any, text: str) -> None:
    assert answer_text(answer) == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"content": "Hel", "stop": False}, "Hel"),
        ({"choices": [{"delta": {"content": "Hel"}}]}, "Hel"),
        ({"choices": [{"delta": {"role": "assistant", "content": None}}]}, ""),
        ({"choices": [{"text": "Hel"}]}, "Hel"),
        ({"choices": [], "usage": {}}, ""),
        ({"event": "content_block_delta", "data": {"delta": {"type": "text_delta", "text": "Hel"}}}, "Hel"),
        ({"event": "response.output_text.delta", "data": {"delta": "Hel"}}, "Hel"),
        ({"event": "message_stop", "data": {}}, ""),
        ("[DONE]", ""),
    ],
)
def test_a_chunk_s_text_is_found_on_every_wire(data: Any, text: str) -> None:
    assert chunk_text(data) == text
