"""Whole answers by way of a stream: which calls the worker may stream although their caller waits for the whole.

A streamed call ends when its connection is closed, because the engine's next write fails. A plain call does not while
other requests are answered: llama.cpp (build 11549) looks for closed connections only after a second without any
result of any request. So an engine is asked to stream wherever the whole answer can be rebuilt exactly.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from graycat.bounds.stored import parse_json, write_json
from graycat.engines.client import EngineClient
from graycat.errors import EngineError, EngineProtocolError
from graycat.queue.kinds import CHAT, COMPLETION, GATHER, INFILL, MESSAGES, OPENAI_COMPLETION, PLAIN, RESPONSES
from graycat.queue.models import Attempt
from graycat.tasks import llm_answers
from graycat.tasks.llm_answers import Rebuild, Request

#: Seconds that the engine may take to tell the text of a few token ids: it needs no slot for that.
DETOKENIZE_TIMEOUT_S = 5.0
#: This format of a chat's thoughts puts them elsewhere in a stream than in a whole answer.
LEGACY_REASONING = "deepseek-legacy"

Body = dict[str, Any]


@dataclass(frozen=True)
class Gathering:
    """How the answers of one kind of task are gathered.

    ``possible`` returns whether a body's whole answer can be rebuilt from its stream; ``added``: fields that the engine
    needs for it beside ``stream``.
    """

    possible: Callable[[Body], bool]
    rebuild: Rebuild
    added: Callable[[Body], Body] = field(default=lambda _: {})


def _native_possible(body: Body) -> bool:
    """Return whether an answer of ``/completion`` can be rebuilt.

    A stream has no ids of a character's first tokens (``return_tokens``). A whole answer has no probabilities for as
    many tokens as its stop word would have. ``response_fields`` picks fields that the rebuilding needs.
    """
    if body.get("response_fields") or body.get("return_tokens"):
        return False
    return not (body.get("stop") and _asks_probabilities(body))


def _openai_completion_possible(body: Body) -> bool:
    """Return whether an answer of ``/v1/completions`` can be rebuilt."""
    return not (body.get("stop") and _asks_probabilities(body))


def _chat_possible(body: Body) -> bool:
    """Return whether a chat can be rebuilt.

    Its stream has no probabilities for tokens without text, such as the last, and lacks what it continues.
    """
    if _asks_probabilities(body) or _continues(body):
        return False
    return body.get("reasoning_format") != LEGACY_REASONING


def _message_possible(body: Body) -> bool:
    """Return whether an answer of ``/v1/messages`` can be rebuilt: its stream lacks what it continues."""
    return _response_possible(body) and not _continues(body)


def _response_possible(body: Body) -> bool:
    """Return whether an answer of ``/v1/responses`` can be rebuilt.

    The events of several answers have no index. If the length is reached in the beginning of a stop word, the stream
    lacks that text, and nothing tells so.
    """
    if body.get("stop") or body.get("stop_sequences") or body.get("reasoning_format") == LEGACY_REASONING:
        return False
    return body.get("n") in (None, 1) and body.get("n_cmpl") in (None, 1)


def _continues(body: Body) -> bool:
    """Return whether a chat ends with the beginning of the answer."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        return False
    return bool(messages[-1].get("role") == "assistant")


def _asks_probabilities(body: Body) -> bool:
    return bool(body.get("n_probs") or body.get("logprobs"))


def _add_to_chat(body: Body) -> Body:
    """Return what a chat's stream needs: its usage, and how far it is if a part of its text may be held back."""
    added: Body = {"stream_options": {"include_usage": True}}
    if body.get("stop"):
        added["timings_per_token"] = True
    return added


#: By the name of the kind of task.
GATHERINGS: dict[str, Gathering] = {
    COMPLETION.name: Gathering(_native_possible, llm_answers.rebuild_completion),
    INFILL.name: Gathering(_native_possible, llm_answers.rebuild_completion),
    OPENAI_COMPLETION.name: Gathering(_openai_completion_possible, llm_answers.rebuild_openai_completion),
    CHAT.name: Gathering(_chat_possible, llm_answers.rebuild_chat, _add_to_chat),
    RESPONSES.name: Gathering(_response_possible, llm_answers.rebuild_response),
    MESSAGES.name: Gathering(_message_possible, llm_answers.rebuild_message),
}


def as_stream(attempt: Attempt) -> Attempt | None:
    """Return a plain attempt as one that is streamed and gathered; None if its answer cannot be rebuilt exactly.

    The worker decides this, not the web process: workers of other versions, on other boxes, know other answers.
    """
    gathering = GATHERINGS.get(attempt.kind)
    if gathering is None or attempt.mode != PLAIN:
        return None
    try:
        body = parse_json(attempt.body)
    except ValueError:
        return None
    if not isinstance(body, dict) or not gathering.possible(body):
        return None
    body |= {"stream": True, **gathering.added(body)}
    return replace(attempt, mode=GATHER, body=json.dumps(body).encode())


def gather(attempt: Attempt, events: Iterable[bytes], client: EngineClient, default_model: str = "") -> bytes:
    """Return the whole answer to a streamed attempt, from its events. ``default_model``: a router's.

    Raises EngineLost if the last event is missing, EngineProtocolError if an event is not llama.cpp's, EngineError if
    it is an error, and NotRebuildableError if only a plain call can tell the answer.
    """

    try:
        body = parse_json(attempt.body)
        request = Request(body, partial(_detokenize, client, body.get("model") or default_model))
        answer = GATHERINGS[attempt.kind].rebuild(map(_parse_event, events), request)
        return write_json(answer)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise EngineProtocolError from None


def _parse_event(event: bytes) -> Any:
    """Return the JSON of a server-sent event; None if it has none. Raises ValueError."""
    _, _, data = event.partition(b"data: ")
    if data.startswith(b"[DONE]"):
        return None
    return parse_json(data)


def _detokenize(client: EngineClient, model: str, tokens: Sequence[int]) -> str:
    """Return the text of token ids of a model, '' for an engine of one. Raises EngineError, EngineLost."""
    asked: Body = {"tokens": tokens}
    if model:
        asked["model"] = model
    body = json.dumps(asked).encode()
    with client.open("POST", "/detokenize", body, timeout_s=DETOKENIZE_TIMEOUT_S) as response:
        reply = response.read()
    if response.status != 200:
        raise EngineError(response.status, reply)
    return str(parse_json(reply)["content"])
