"""Streams: what a game on v3 or v2 of "LLM for Unity" gets, and the bytes that it comes in."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.stack import Client, Stack
from tests.support.unity import Answer, ErrorAnswer, V2Reader, V3Reader, read_chunks, send_post

#: What both clients send beside the prompt.
FIELDS: dict[str, Any] = {"id_slot": -1, "n_keep": 0, "temperature": 0, "seed": 1, "cache_prompt": True, "stream": True}
READERS = pytest.mark.parametrize("reader", [V3Reader(), V2Reader()], ids=["v3", "v2"])
#: Each continues in one way only, whoever shares the engine.
COUNTS = ["1, 2, 3, 4,", "a b c d e f", "one, two, three, four,", "101 102 103"]
WORDS = "recommendations administration pharmaceutical internationally environmental characteristics "
LONG = (WORDS * 100)[:8000]

Reader = V3Reader | V2Reader


def ask(stack: Stack, reader: Reader, prompt: Any, **fields: Any) -> Answer:
    """Return a game's answer through graycat."""
    with send_post(stack.url, "/completion", FIELDS | {"prompt": prompt} | fields, stack.token) as connection:
        return reader.read(connection)


def bare(engine: Client, prompt: Any, **fields: Any) -> dict[str, Any]:
    """Return the bare engine's whole answer."""
    answer: dict[str, Any] = engine.post("/completion", FIELDS | {"prompt": prompt} | fields | {"stream": False}).json()
    return answer


@READERS
def test_forty_short_prompts_have_the_full_answer_four_at_a_time(stack: Stack, engine: Client, reader: Reader) -> None:
    expected = {prompt: bare(engine, prompt, n_predict=2)["content"] for prompt in COUNTS}
    assert all(expected.values())
    with ThreadPoolExecutor(4) as games:
        answers = list(games.map(lambda prompt: ask(stack, reader, prompt, n_predict=2), COUNTS * 10))
    assert [answer.content for answer in answers] == list(expected.values()) * 10
    assert {len(answer.events) for answer in answers} == {3}
    assert {answer.events[-1]["tokens_predicted"] for answer in answers} == {2}


@READERS
def test_prompts_of_8000_characters_have_the_full_answer(stack: Stack, engine: Client, reader: Reader) -> None:
    expected = bare(engine, LONG, n_predict=4)
    for _ in range(2):
        answer = ask(stack, reader, LONG, n_predict=4)
        assert (answer.content, answer.events[-1]["tokens_predicted"]) == (expected["content"], 4)
        assert answer.events[-1]["tokens_evaluated"] == expected["tokens_evaluated"]


@pytest.mark.parametrize("characters", [900, 1000, 1100, 1500, 2500, 6000])
def test_a_final_event_fits_v3_whatever_the_prompt_makes_of_it(stack: Stack, characters: int) -> None:
    assert ask(stack, V3Reader(), LONG[:characters], n_predict=1).events[-1]["stop_type"] == "limit"


def test_a_prompt_is_left_out_of_a_final_event_only_where_it_has_to_be(stack: Stack) -> None:
    short, long = (ask(stack, V3Reader(), LONG[:characters], n_predict=1).events[-1] for characters in (300, 3000))
    assert (short["prompt"], "prompt" in long) == (LONG[:300], False)
    assert set(short) - set(long) == {"prompt"}


def test_a_final_event_fits_v3_even_if_the_settings_are_large(stack: Stack) -> None:
    last = ask(stack, V3Reader(), "1, 2,", n_predict=1, stop=[f"stop {n} " + "x" * 200 for n in range(20)]).events[-1]
    assert (last["stop"], last["content"], "generation_settings" in last) == (True, "", False)


@READERS
@pytest.mark.parametrize(
    "prompt", ['"data: {}" and data: [DONE]\n\ndata: 1', "a\u2028b\x85c\x0bd", "naïve 🦊 日本語 1, 2, 3,"]
)
def test_no_text_in_a_prompt_breaks_a_reader(stack: Stack, engine: Client, reader: Reader, prompt: str) -> None:
    answer = ask(stack, reader, prompt, n_predict=2)
    assert answer.content == bare(engine, prompt, n_predict=2)["content"]
    assert answer.events[-1]["prompt"] == prompt


@READERS
@pytest.mark.parametrize("text", ["data: 1\\n\\ndata: 2", "\U0001f98a\U00013000ü", "<html>\\r\\n: ping\\n\\nid: 1"])
def test_no_text_in_an_answer_breaks_a_reader(stack: Stack, reader: Reader, text: str) -> None:
    answer = ask(stack, reader, "x", n_predict=32, grammar=f'root ::= "{text}"')
    assert answer.content == text.encode("raw_unicode_escape").decode("unicode_escape") if "\\n" in text else text


@READERS
def test_a_stream_carries_tokens_and_probabilities(stack: Stack, engine: Client, reader: Reader) -> None:
    expected = bare(engine, COUNTS[0], n_predict=4, return_tokens=True)
    answer = ask(stack, reader, COUNTS[0], n_predict=4, n_probs=3)
    assert answer.tokens == expected["tokens"]
    assert [len(event["completion_probabilities"][0]["top_logprobs"]) for event in answer.events[:-1]] == [3] * 4


def chunks_of(url: str, body: dict[str, Any], token: str = "") -> list[bytes]:
    """Return the HTTP chunks of a stream, without what differs between two runs."""
    with send_post(url, "/completion", FIELDS | {"cache_prompt": False} | body, token) as connection:
        chunks = read_chunks(connection)
    return [re.sub(rb',"timings":{[^}]*}|,"id_slot":-?[0-9]+|,"time_ms":[0-9]+', b"", chunk) for chunk in chunks]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n_predict": 0},
        {"n_probs": 2, "post_sampling_probs": True},
        {"return_progress": True},
        {"stop": [", 6"]},
        {"response_fields": ["content", "tokens_predicted"]},
        {"grammar": 'root ::= "🦊ü"'},
    ],
    ids=str,
)
def test_each_event_of_the_engine_is_one_chunk_byte_for_byte(stack: Stack, fields: dict[str, Any]) -> None:
    body = {"prompt": COUNTS[0], "n_predict": 6} | fields
    chunks = chunks_of(stack.url, body, stack.token)
    assert chunks == chunks_of(stack.llm_url, body)
    assert all(re.fullmatch(rb"data: [^\n]+\n\n", chunk) for chunk in chunks)


def test_a_stream_of_several_prompts_keeps_an_event_a_chunk(stack: Stack, engine: Client) -> None:
    chunks = chunks_of(stack.url, {"prompt": COUNTS[:3], "n_predict": 4}, stack.token)
    # llama.cpp begins such a stream with `data: null`.
    events = [event for chunk in chunks if (event := json.loads(chunk.removeprefix(b"data: ")))]
    by_index = {n: "".join(event["content"] for event in events if event["index"] == n) for n in range(3)}
    assert by_index == {n: bare(engine, COUNTS[n], n_predict=4)["content"] for n in range(3)}
    assert sum(event["stop"] for event in events) == 3


@READERS
def test_a_refused_stream_is_an_error_status(stack: Stack, reader: Reader) -> None:
    with pytest.raises(ErrorAnswer) as caught:
        ask(stack, reader, "1, 2,", n_probs="three")
    assert (caught.value.status, caught.value.body["error"]["type"]) == (400, "invalid_request_error")
