"""Continues a text completion that broke off: the engine gets the prompt and the tokens so far as a new prompt.

llama.cpp takes a prompt that mixes text and token ids, and its stream contains the ids. So nothing is guessed, and no
client reads a word twice. Some state of the engine is not in the tokens: a grammar, or half a stop word. It would be
lost, so such answers are not continued.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from graycat.queue.kinds import COMPLETION
from graycat.queue.models import Attempt

#: Fields with which the answer depends on more than the tokens before.
_STATEFUL_FIELDS = (
    "grammar",
    "json_schema",
    "stop",
    "response_fields",
    "n_probs",
    "return_progress",
    "mirostat",
    "lora",
)


def continue_attempt(attempt: Attempt, chunks: Sequence[bytes]) -> Attempt | None:
    """Return an attempt that continues after the chunks of earlier attempts; None if that is impossible."""
    if attempt.kind != COMPLETION.name:
        return None
    try:
        body = json.loads(attempt.body)
        tokens: list[int] = []
        for chunk in chunks:
            tokens += _read_token_ids(chunk)
    except (ValueError, KeyError, TypeError):
        return None
    if not tokens or not _is_plain_prompt(body.get("prompt")) or _has_stateful_field(body):
        return None
    if not _reduce_limit(body, len(tokens)):
        return None

    prompt = body["prompt"]
    if not isinstance(prompt, list):
        prompt = [prompt]
    body["prompt"] = [*prompt, *tokens]
    return replace(attempt, body=json.dumps(body).encode(), earlier=tuple(chunks))


def _reduce_limit(body: dict[str, Any], tokens: int) -> bool:
    """Subtract the tokens so far from a body's limit, if it has one; return False if none would be left."""
    max_tokens = body.get("n_predict", body.get("max_tokens", -1))
    if not isinstance(max_tokens, int):
        return False
    if max_tokens < 0:
        # No limit.
        return True
    body["n_predict"] = max_tokens - tokens
    return max_tokens > tokens


def _is_plain_prompt(prompt: Any) -> bool:
    """Return whether this is one prompt: text, token ids, or a mix of both. A list of texts is several prompts."""
    if isinstance(prompt, str):
        return True
    if not isinstance(prompt, list):
        return False
    has_ids = any(isinstance(part, int) for part in prompt)
    return has_ids and all(isinstance(part, (int, str)) for part in prompt)


def _has_stateful_field(body: dict[str, Any]) -> bool:
    return any(body.get(field) for field in _STATEFUL_FIELDS)


def _read_token_ids(chunk: bytes) -> list[int]:
    """Return the token ids of a chunk. Raises ValueError, KeyError, TypeError if it does not tell them."""
    event = _parse_event(chunk)
    tokens: list[int] = event["tokens"]
    are_ids = all(isinstance(token, int) for token in tokens)
    if event.get("stop") or not are_ids or (event["content"] and not tokens):
        raise ValueError("this chunk is not part of a stream that can be continued")
    return tokens


def merge_final_event(event: bytes, earlier: Sequence[bytes]) -> bytes:
    """Return the final event of a continued stream with the counts of the whole stream; other events unchanged.

    ``earlier``: the chunks of earlier attempts.
    """
    if b'"stop":true' not in event:
        return event
    final = _parse_event(event)
    count = 0
    text = ""
    for chunk in earlier:
        chunk_event = _parse_event(chunk)
        count += len(chunk_event["tokens"])
        text += chunk_event["content"]
    for field, difference in (("tokens_predicted", count), ("tokens_evaluated", -count)):
        if isinstance(final.get(field), int):
            final[field] += difference
    if isinstance(final.get("prompt"), str):
        # The engine repeats its prompt, and so also the text of the earlier attempts.
        final["prompt"] = final["prompt"].removesuffix(text)
    return b"data: " + json.dumps(final, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def _parse_event(event: bytes) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(event.removeprefix(b"data: "))
    return parsed
