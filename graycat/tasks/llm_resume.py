"""Going on with a completion that broke off: its prompt and the tokens so far have an engine go on where it was.

llama.cpp takes a prompt that mixes text and token ids, and its stream tells the ids, so nothing is guessed and no
client reads a word twice. The engine's own state is not in the tokens: a grammar, or a stop word half seen, would begin
anew, so such answers are not continued.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from graycat.queue.kinds import COMPLETION
from graycat.queue.models import Attempt

#: Fields with which an answer depends on more than the tokens before it.
_STATEFUL = ("grammar", "json_schema", "stop", "response_fields", "n_probs", "return_progress", "mirostat", "lora")


def continued(attempt: Attempt, chunks: Sequence[bytes]) -> Attempt | None:
    """Return the attempt that goes on behind the chunks of earlier ones; None where nobody can tell how."""
    if attempt.kind != COMPLETION.name:
        return None
    try:
        body = json.loads(attempt.body)
        tokens = [token for chunk in chunks for token in _tokens(chunk)]
    except (ValueError, KeyError, TypeError):
        return None
    prompt = body.get("prompt")
    if not _is_plain(prompt) or any(body.get(field) for field in _STATEFUL) or not tokens:
        return None
    if (wanted := body.get("n_predict", body.get("max_tokens", -1))) is None or not isinstance(wanted, int):
        return None
    if wanted >= 0:
        if wanted <= len(tokens):
            return None
        body["n_predict"] = wanted - len(tokens)
    body["prompt"] = [*(prompt if isinstance(prompt, list) else [prompt]), *tokens]
    return replace(attempt, body=json.dumps(body).encode(), earlier=tuple(chunks))


def _is_plain(prompt: Any) -> bool:
    """Tell whether a prompt is one: text, token ids, or a mix of both."""
    if isinstance(prompt, str):
        return True
    parts = prompt if isinstance(prompt, list) else []
    return any(isinstance(part, int) for part in parts) and all(isinstance(part, (int, str)) for part in parts)


def _tokens(chunk: bytes) -> list[int]:
    """Return the ids of a chunk. Raises ValueError, KeyError, TypeError for one that does not tell them."""
    event = json.loads(chunk.removeprefix(b"data: "))
    tokens: list[int] = event["tokens"]
    if event.get("stop") or not all(isinstance(token, int) for token in tokens) or (event["content"] and not tokens):
        raise ValueError("no chunk of a stream that can be continued")
    return tokens


def as_one(event: bytes, earlier: Sequence[bytes]) -> bytes:
    """Return the final event of a continued stream as that of the whole; any other as it is."""
    if b'"stop":true' not in event:
        return event
    final: dict[str, Any] = json.loads(event.removeprefix(b"data: "))
    before = [json.loads(chunk.removeprefix(b"data: ")) for chunk in earlier]
    count = sum(len(chunk["tokens"]) for chunk in before)
    for field, difference in (("tokens_predicted", count), ("tokens_evaluated", -count)):
        if isinstance(final.get(field), int):
            final[field] += difference
    if isinstance(final.get("prompt"), str):
        # The engine repeats what it was asked with, so also the text that was there already.
        final["prompt"] = final["prompt"].removesuffix("".join(chunk["content"] for chunk in before))
    return b"data: " + json.dumps(final, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"
