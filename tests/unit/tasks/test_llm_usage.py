"""Tokens of streams and whole answers that a real engine has sent (llama.cpp build 11549), by its own counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graycat.engines.client import Call, StopReason
from graycat.queue.models import Attempt, Made
from graycat.tasks.llm_usage import Told, note_chunks, note_stream, note_whole, read_told
from graycat.worker.stream_relay import RelayedStream
from tests.support.helpers import Valkey, eventually, sse
from tests.support.servers import hold, reply, stream
from tests.support.workers import worker_on

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "answers.json").read_text())
#: Requests of several answers, each of which ends by itself.
SEVERAL = tuple(name for name in RECORDED if "several" in name or name.endswith(" n"))
CONTEXT = 8192


class Source:
    """An engine's stream that has arrived whole."""

    ended = True

    def __init__(self, events: list[bytes]) -> None:
        self._events = events

    def read(self) -> list[bytes]:
        return self._events


def attempt_at(kind: str, body: dict[str, Any], **changes: Any) -> Attempt:
    raw = json.dumps(body).encode()
    return Attempt("0" * 32, 1, kind, "stream", raw, 60.0, "r", False, "1-1", "tests", **changes)


def streamed(attempt: Attempt, events: list[bytes], **options: Any) -> RelayedStream:
    source: Any = Source(events)
    relayed = RelayedStream(attempt, Call(), source, publish=True, **options)
    relayed.read_batch()
    return relayed


def counted(reply: Any) -> tuple[int, int]:
    """Return the tokens of prompt and answer that a whole answer tells."""
    if isinstance(reply, list):
        pairs = [counted(part) for part in reply]
        return sum(prompt for prompt, _ in pairs), sum(answer for _, answer in pairs)
    if "usage" not in reply:
        return reply["tokens_evaluated"], reply["tokens_predicted"]
    usage = reply["usage"]
    if "prompt_tokens" in usage:
        return usage["prompt_tokens"], usage["completion_tokens"]
    return usage["input_tokens"] + usage.get("cache_read_input_tokens", 0), usage["output_tokens"]


@pytest.mark.parametrize("name", RECORDED)
def test_a_whole_answer_has_the_tokens_that_it_tells(name: str) -> None:
    recorded = RECORDED[name]
    attempt = attempt_at(recorded["kind"], recorded["request"])
    prompt, answer = counted(recorded["reply"])
    assert note_whole(attempt, json.dumps(recorded["reply"]).encode()) == answer
    assert attempt.made == Made(prompt, answer)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("name", RECORDED)
def test_a_stream_has_the_tokens_of_the_whole_answer(name: str, keep: bool) -> None:
    recorded = RECORDED[name]
    attempt = attempt_at(recorded["kind"], recorded["request"])
    events = [f"{event}\n\n".encode() for event in recorded["events"]]
    prompt, answer = counted(recorded["reply"])
    tokens = note_stream(attempt, streamed(attempt, events, keep=keep), CONTEXT)
    if keep or name not in SEVERAL:
        assert attempt.made == Made(prompt, answer)
    assert tokens == attempt.made.completion_tokens > 0 or answer == 0


def test_a_chat_that_was_not_asked_for_its_usage_tells_it_in_its_timings() -> None:
    final = (
        b'data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}],"object":"chat.completion.chunk",'
        b'"timings":{"cache_n":22,"prompt_n":5,"prompt_ms":8079.499,"predicted_n":4,"predicted_ms":1368.125}}\n\n'
    )
    events = [b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n', final, b"data: [DONE]\n\n"]
    attempt = attempt_at("llm.chat", {"messages": []})
    note_stream(attempt, streamed(attempt, events), CONTEXT)
    assert attempt.made == Made(27, 4)
    # The times of one of several answers say nothing of the others.
    several = attempt_at("llm.chat", {"messages": [], "n": 2})
    assert note_stream(several, streamed(several, [events[0]] * 9 + events[1:]), CONTEXT) == 8


def test_text_that_looks_like_a_count_is_none() -> None:
    told = read_told([b'data: {"content":"\\"tokens_predicted\\":9,\\"prompt_tokens\\": 9","stop":false}\n\n'])
    assert told == Told(None, None)


@pytest.mark.parametrize(
    ("kind", "body", "events", "made"),
    [
        # Each of the native events tells both.
        (
            "llm.completion", {},
            [b'data: {"content":"a","stop":false,"tokens_predicted":3,"tokens_evaluated":70}\n\n'], Made(70, 3),
        ),
        # Four bytes of a request are about a token, and no prompt is longer than the context.
        ("llm.chat", {"messages": "x" * 384}, [b'data: {"choices":[]}\n\n'] * 8, Made(100, 5)),
        ("llm.chat", {"messages": "x" * 384_000}, [b'data: {"choices":[]}\n\n'] * 8, Made(CONTEXT, 5)),
        ("llm.chat", {"messages": "x" * 384}, [], Made(0, 0)),
    ],
)  # fmt: skip
def test_a_stream_that_was_cut_counts_what_was_made_until_then(
    kind: str, body: dict[str, Any], events: list[bytes], made: Made
) -> None:
    attempt = attempt_at(kind, body)
    note_stream(attempt, streamed(attempt, events), CONTEXT)
    assert attempt.made == made


def test_progress_tells_how_much_of_a_prompt_was_read() -> None:
    event = b'data: {"choices":[],"prompt_progress":{"total":900,"cache":0,"processed":512,"time_ms":7}}\n\n'
    attempt = attempt_at("llm.chat", {"messages": []})
    note_stream(attempt, streamed(attempt, [event], skip_progress=True), CONTEXT)
    assert attempt.made == Made(512, 0)
    note_stream(attempt, streamed(attempt, [event, *[b'data: {"choices":[]}\n\n'] * 5], skip_progress=True), CONTEXT)
    assert attempt.made == Made(900, 2)


def test_what_only_counts_tokens_has_used_none() -> None:
    attempt = attempt_at("llm.count_messages", {"messages": []})
    assert note_whole(attempt, b'{"input_tokens":40}') is None
    assert attempt.made == Made()


def test_embeddings_have_read_a_prompt_and_written_nothing() -> None:
    attempt = attempt_at("llm.openai_embeddings", {"input": "a"})
    note_whole(attempt, b'{"data":[],"usage":{"prompt_tokens":6,"total_tokens":6}}')
    assert attempt.made == Made(6, 0)


def test_an_answer_whose_worker_died_behind_its_last_event_counts_by_what_it_tells() -> None:
    recorded = RECORDED["plain"]
    attempt = attempt_at(recorded["kind"], recorded["request"])
    note_chunks(attempt, [event.encode() for event in recorded["events"]])
    assert attempt.made == Made(*counted(recorded["reply"]))
    # What an attempt has counted itself stays.
    attempt.made.completion_tokens = 1
    note_chunks(attempt, [event.encode() for event in recorded["events"]])
    assert attempt.made.completion_tokens == 1


@pytest.mark.parametrize("mode", ["stream", "live", "gather", "plain"])
def test_a_task_s_record_says_what_it_has_used(broker: Valkey, mode: str) -> None:
    recorded = RECORDED["plain"]
    answer = stream(*(f"{event}\n\n".encode() for event in recorded["events"]))
    body = recorded["request"] | {"stream": True}
    if mode == "plain":
        # This one cannot be rebuilt from a stream.
        answer, body = reply(200, recorded["reply"]), recorded["request"] | {"return_tokens": True}
    with worker_on(broker, {"POST /completion": answer}) as worker:
        task_id = worker.accept(mode=mode, body=json.dumps(body).encode())
        worker.run(task_id)
        record = worker.records.get(task_id)
    assert record["state"] == "succeeded"
    assert (int(record["prompt_tokens"]), int(record["completion_tokens"])) == counted(recorded["reply"])
    assert int(record["engine_ms"]) <= int(record["finished_ms"]) - int(record["claimed_ms"])


def test_a_cancelled_stream_s_record_says_what_it_has_used_until_then(broker: Valkey) -> None:
    events = sse("Hel", "lo", "!", stop=False)
    with worker_on(broker, {"POST /completion": stream(*events, then=hold)}) as worker:
        task_id = worker.accept(body=b'{"prompt":"' + b"x" * 100 + b'","stream":true}')
        end = worker.begin(task_id)
        eventually(lambda: len(worker.records.events(task_id)) > len(events))
        worker.runtime.running.stop(task_id, StopReason.CANCELLED)
        end()
        record = worker.records.get(task_id)
    assert (record["state"], record["completion_tokens"]) == ("cancelled", "2")
    assert record["prompt_tokens"] == str(len(b'{"prompt":"","stream":true}' + b"x" * 100) // 4)
