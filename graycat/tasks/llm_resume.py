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

from graycat.bounds.stored import parse_json, write_json
from graycat.queue.kinds import COMPLETION, LLM_KINDS
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


def is_whole(attempt: Attempt, chunks: Sequence[bytes]) -> bool:
    """Return whether the chunks of an answer end with the last event of its stream."""
    ending = LLM_KINDS[attempt.kind].ending
    if not chunks or not ending:
        return False
    if ending != COMPLETION.ending:
        # A whole line: in a text, these words are a part of one.
        return any(line.partition(b": ")[2] == ending for line in chunks[-1].split(b"\n"))
    return ending in chunks[-1] and _asks_for_one_answer(parse_json(attempt.body))


def _asks_for_one_answer(body: dict[str, Any]) -> bool:
    """Return whether the stream of a ``/completion`` has one final event, and not one for each of several answers."""
    prompt = body.get("prompt")
    is_list = isinstance(prompt, list) and not _is_plain_prompt(prompt)
    return not is_list and all((body.get(field) or 1) == 1 for field in ("n", "n_cmpl"))


def continue_attempt(attempt: Attempt, chunks: Sequence[bytes]) -> Attempt | None:
    """Return an attempt that continues after the chunks of earlier attempts; None if that is impossible."""
    if attempt.kind != COMPLETION.name:
        return None
    try:
        body = parse_json(attempt.body)
        tokens = _read_token_ids(chunks)
    except (ValueError, KeyError, TypeError):
        return None
    if not tokens or not _is_plain_prompt(body.get("prompt")) or _has_stateful_field(body):
        return None
    if not _asks_for_one_answer(body) or not _reduce_limit(body, len(tokens)):
        return None

    read = tokens[: _count_read(chunks)]
    if read:
        prompt = body["prompt"]
        if not isinstance(prompt, list):
            prompt = [prompt]
        body["prompt"] = [*prompt, *read]
    return replace(attempt, body=json.dumps(body).encode(), earlier=tuple(chunks))


def _reduce_limit(body: dict[str, Any], tokens: int) -> bool:
    """Subtract the tokens so far from a body's limit, if it has one; return False if it has one that is no number.

    If none is left, only the final event is missing: see ContinuedStream.
    """
    max_tokens = body.get("n_predict", body.get("max_tokens", -1))
    if not isinstance(max_tokens, int):
        return False
    if max_tokens >= 0:
        body["n_predict"] = max(max_tokens - tokens, 0)
    return True


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


def _read_token_ids(chunks: Sequence[bytes]) -> list[int]:
    """Return the token ids of chunks. Raises ValueError, KeyError, TypeError if they do not tell all of them."""
    tokens: list[int] = []
    predicted = 0
    for chunk in chunks:
        event = _parse_event(chunk)
        ids: list[int] = event["tokens"]
        are_ids = all(isinstance(token, int) for token in ids)
        if event.get("stop") or not are_ids or (event["content"] and not ids):
            raise ValueError("this chunk is not part of a stream that can be continued")
        tokens += ids
        # llama.cpp does not tell the ids of a character's first tokens, but counts them; each attempt from the start.
        counts = (predicted + len(ids), len(ids))
        predicted = event.get("tokens_predicted", counts[0])
        if predicted not in counts:
            raise ValueError("the ids of some tokens are missing")
    return tokens


def _count_read(chunks: Sequence[bytes]) -> int:
    """Return the number of tokens up to the last one with a text.

    One without may have been the end of the text. The engine would go on behind it, so it chooses that one again.
    """
    read = 0
    count = 0
    for event in map(_parse_event, chunks):
        count += len(event["tokens"])
        if event["content"]:
            read = count
    return read


class ContinuedStream:
    """The stream of an attempt that continues the chunks of earlier ones."""

    def __init__(self, attempt: Attempt) -> None:
        events = [_parse_event(chunk) for chunk in attempt.earlier]
        self._count = sum(len(event["tokens"]) for event in events)
        self._text = "".join(event["content"] for event in events)
        #: Whether no tokens were left to predict. llama.cpp predicts one all the same, and then has its final event.
        self._spent = parse_json(attempt.body).get("n_predict") == 0

    def edit(self, event: bytes) -> bytes:
        """Return an event as the client gets it: the final one with the counts of the whole stream; b"" for none."""
        if COMPLETION.ending not in event:
            return b"" if self._spent else event
        final = _parse_event(event)
        if self._spent:
            final |= {"content": "", "tokens": [], "tokens_predicted": 0, "stop_type": "limit", "stopping_word": ""}
        _add_to_counts(final, {"tokens_predicted": self._count, "tokens_evaluated": -self._count})
        if isinstance(final.get("generation_settings"), dict):
            _add_to_counts(final["generation_settings"], {"n_predict": self._count, "max_tokens": self._count})
        if "has_new_line" in final:
            final["has_new_line"] = final["has_new_line"] or "\n" in self._text
        if isinstance(final.get("prompt"), str):
            # The engine repeats its prompt, and so also the text of the earlier attempts.
            final["prompt"] = final["prompt"].removesuffix(self._text)
        return b"data: " + write_json(final) + b"\n\n"


def _add_to_counts(fields: dict[str, Any], differences: dict[str, int]) -> None:
    """Add to the fields that are counts; a negative one means that there is no limit."""
    for field, difference in differences.items():
        value = fields.get(field)
        if isinstance(value, int) and value >= 0:
            fields[field] = value + difference


def _parse_event(event: bytes) -> dict[str, Any]:
    parsed: dict[str, Any] = parse_json(event.removeprefix(b"data: "))
    return parsed
