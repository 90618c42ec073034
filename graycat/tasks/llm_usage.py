"""How many tokens an attempt has had its engine read and write, by the engine's own words where it tells them.

Every kind of answer tells it at its end: in ``usage``, in llama.cpp's native counts, or in ``timings``. A stream that
is cut before its end, and one of several answers, may not; then it is estimated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from graycat.bounds.body import count_answers
from graycat.bounds.stored import parse_json
from graycat.queue.kinds import CHAT, COMPLETION, LLM_KINDS, MESSAGES, OPENAI_COMPLETION
from graycat.queue.models import Attempt
from graycat.queue.topology import LLM
from graycat.worker.stream_relay import CLOSING_EVENTS, RelayedStream

#: Where an engine tells the number of tokens. In a text the quotes would be escaped.
_PROMPT = re.compile(rb'"(?:tokens_evaluated|prompt_tokens|input_tokens)":\s*(\d{1,9})')
_COMPLETION = re.compile(rb'"(?:tokens_predicted|completion_tokens|output_tokens)":\s*(\d{1,9})')
#: ``/v1/messages`` counts apart what it had read for an earlier request.
_CACHED = re.compile(rb'"cache_read_input_tokens":\s*(\d{1,9})')
_TIMINGS = re.compile(rb'"timings":\s*\{[^{}]*')
_TIMED = re.compile(rb'"(cache_n|prompt_n|predicted_n)":\s*(\d{1,9})')
#: In the events that tell how far the engine is with a prompt.
_PROGRESS = re.compile(rb'"(total|processed)":\s*(\d{1,9})')
#: The number of events that begin or end a stream and carry no token; for other kinds it is one.
_EVENTS_WITHOUT_TOKEN = {CHAT.name: 3, OPENAI_COMPLETION.name: 2, MESSAGES.name: 5}
#: Bytes of a request for each token of its prompt, if the engine does not tell how many it has.
_BYTES_PER_TOKEN = 4
#: What a body has that may ask for several answers.
_SEVERAL = re.compile(rb'"(?:n|n_cmpl)":|"prompt":\s*\[')


class Told(NamedTuple):
    """The tokens that an engine tells; None if it does not."""

    prompt: int | None = None
    completion: int | None = None


def note_whole(attempt: Attempt, body: bytes) -> int | None:
    """Note what a whole answer tells, and return the number of tokens that it has; None if it does not tell."""
    kind = LLM_KINDS[attempt.kind]
    if kind.queue != LLM:
        # What only counts tokens has made none.
        return None
    told = read_told([body])
    if body.startswith(b"["):
        told = _add_up(body)
    attempt.made.prompt_tokens = told.prompt or 0
    if not kind.ending:
        # Its answer is no text.
        return None
    attempt.made.completion_tokens = told.completion or 0
    return told.completion


def note_stream(attempt: Attempt, stream: RelayedStream, context: int) -> int:
    """Note what a stream has had the engine make, at its end or where it was cut; return the number of its tokens.

    ``context``: the most tokens of a prompt that may be estimated.
    """
    told = read_told([stream.first, *stream.closing])
    answers = _count_answers(attempt)
    if answers > 1:
        told = _read_several(attempt, stream, told, answers)
    completion = told.completion
    if completion is None or attempt.earlier:
        # A stream that is continued ends with the counts of all its attempts.
        completion = max(stream.count - _EVENTS_WITHOUT_TOKEN.get(attempt.kind, 1), 0)
    prompt = told.prompt
    if prompt is None:
        prompt = _estimate_prompt(attempt, stream, context)
    attempt.made.prompt_tokens = prompt
    attempt.made.completion_tokens = completion
    return completion


def note_chunks(attempt: Attempt, chunks: Sequence[bytes]) -> None:
    """Note what a stream tells that an earlier attempt has published to its end, before its worker died."""
    if not any(attempt.made.amounts):
        told = read_told([chunks[0], *chunks[-CLOSING_EVENTS:]])
        attempt.made.prompt_tokens = told.prompt or 0
        attempt.made.completion_tokens = told.completion or 0


def read_told(replies: Iterable[bytes]) -> Told:
    """Return what events of one answer tell, the later ones first of all."""
    prompt = completion = None
    for reply in replies:
        told = _read_reply(reply)
        if told.prompt is not None:
            prompt = told.prompt
        if told.completion is not None:
            completion = told.completion
    return Told(prompt, completion)


def _read_reply(reply: bytes) -> Told:
    prompt, completion = _find(_PROMPT, reply), _find(_COMPLETION, reply)
    if prompt is not None:
        return Told(prompt + (_find(_CACHED, reply) or 0), completion)
    if completion is not None:
        return Told(None, completion)
    timings = _TIMINGS.search(reply)
    if timings is None:
        return Told()
    timed = {name: int(number) for name, number in _TIMED.findall(timings[0])}
    if b"prompt_n" in timed:
        prompt = timed[b"prompt_n"] + timed.get(b"cache_n", 0)
    return Told(prompt, timed.get(b"predicted_n"))


def _find(pattern: re.Pattern[bytes], reply: bytes) -> int | None:
    found = pattern.search(reply)
    if found is None:
        return None
    return int(found[1])


def _add_up(body: bytes) -> Told:
    """Return what a list of native answers tells."""
    return Told(sum(map(int, _PROMPT.findall(body))), sum(map(int, _COMPLETION.findall(body))))


def _count_answers(attempt: Attempt) -> int:
    if not _SEVERAL.search(attempt.body):
        return 1
    try:
        return count_answers(parse_json(attempt.body))
    except (ValueError, TypeError, AttributeError):
        return 1


def _read_several(attempt: Attempt, stream: RelayedStream, told: Told, answers: int) -> Told:
    """Return what a stream of several answers tells: each has an end of its own, of which only the last may be kept."""
    if LLM_KINDS[attempt.kind].ending != COMPLETION.ending:
        # What is told of all of them together is in ``usage``.
        usage = [event for event in stream.closing if b'"usage"' in event]
        return read_told(usage)
    if stream.keep:
        return _add_up(b"".join(event for event in stream.events if COMPLETION.ending in event))
    return Told(told.prompt and told.prompt * answers)


def _estimate_prompt(attempt: Attempt, stream: RelayedStream, context: int) -> int:
    """Return about how many tokens of its prompt an engine has read for a stream that does not tell."""
    progress = dict(_PROGRESS.findall(stream.progress))
    if stream.count:
        estimated = min(len(attempt.body) // _BYTES_PER_TOKEN, context)
        return int(progress.get(b"total", estimated))
    return int(progress.get(b"processed", 0))
