"""Whole answers out of streams that a real engine has sent (llama.cpp build 11549), beside its own whole answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from graycat.errors import EngineError, EngineLost
from graycat.tasks.llm_answers import (
    NotRebuildableError,
    Rebuild,
    Request,
    rebuild_chat,
    rebuild_completion,
    rebuild_message,
    rebuild_openai_completion,
    rebuild_response,
)
from graycat.tasks.llm_gather import GATHERINGS

#: What was asked, streamed and whole. What differs between two runs of one request is written alike.
RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "answers.json").read_text())
#: Requests whose length is reached in the beginning of a stop word, of which the stream says nothing.
HELD_BACK = ("oai held 6", "chat held 6", "chat stop n")
#: The text of the tokens that are held back in these streams.
PIECES = {8516: "END", 236743: " ", 236745: "t", 1014: "wo", 811: "one", 1340: "of"}


def detokenize(tokens: Sequence[int]) -> str:
    """Return the text of token ids."""
    return "".join(PIECES[token] for token in tokens)


def parsed(events: Sequence[str]) -> list[Any]:
    """Return the JSON of recorded events."""
    data = (event.partition("data: ")[2] for event in events)
    return [None if text == "[DONE]" else json.loads(text) for text in data]


def rebuilt(name: str, events: Sequence[str]) -> Any:
    """Return a recorded answer, rebuilt from some events."""
    recorded = RECORDED[name]
    return GATHERINGS[recorded["kind"]].rebuild(parsed(events), Request(recorded["request"], detokenize))


@pytest.mark.parametrize("name", [name for name in RECORDED if name not in HELD_BACK])
def test_a_rebuilt_answer_is_the_one_the_engine_gives_whole_field_by_field_in_its_order(name: str) -> None:
    recorded = RECORDED[name]
    assert json.dumps(rebuilt(name, recorded["events"])) == json.dumps(recorded["reply"])


@pytest.mark.parametrize("name", HELD_BACK)
def test_text_that_is_held_back_at_the_end_is_not_left_out_silently(name: str) -> None:
    with pytest.raises(NotRebuildableError):
        rebuilt(name, RECORDED[name]["events"])


@pytest.mark.parametrize("name", RECORDED)
def test_an_answer_whose_last_events_are_missing_is_none(name: str) -> None:
    events = RECORDED[name]["events"]
    last = 2 if events[-1].endswith("[DONE]") else 1
    if '"usage"' in events[-2] and '"choices":[]' in events[-2]:
        last = 3
    with pytest.raises(EngineLost):
        rebuilt(name, events[:-last])


@pytest.mark.parametrize(
    "rebuild",
    [rebuild_completion, rebuild_openai_completion, rebuild_chat, rebuild_response, rebuild_message],
    ids=lambda rebuild: rebuild.__name__,
)
@pytest.mark.parametrize("events", [[], [None]])
def test_nothing_is_no_answer(rebuild: Rebuild, events: list[Any]) -> None:
    with pytest.raises(EngineLost):
        rebuild(events, Request({}, detokenize))


def test_an_answer_of_several_that_never_came_is_missed() -> None:
    recorded = RECORDED["several prompts"]
    only_the_second = [event for event in recorded["events"] if '"index":1' in event]
    with pytest.raises(EngineLost):
        rebuilt("several prompts", only_the_second)


def test_no_text_is_asked_for_where_none_was_held_back() -> None:
    def refuse(_: Sequence[int]) -> str:
        raise AssertionError

    for name in ("plain", "stop", "stop at the end of the model", "glyphs and stop"):
        recorded = RECORDED[name]
        assert rebuild_completion(parsed(recorded["events"]), Request({}, refuse)) == recorded["reply"]


def test_a_token_without_text_at_the_end_is_not_held_back() -> None:
    recorded = RECORDED["stop held at 6"]
    # A control token: as text it would be written out, and begins no stop word.
    whole: Any = rebuild_completion(parsed(recorded["events"]), Request({}, lambda _: "<unused1>"))
    assert whole["content"] == "one two "


def test_an_engine_that_does_not_tell_the_usage_has_an_answer_without_it() -> None:
    recorded = RECORDED["chat"]
    events = [event for event in recorded["events"] if '"usage"' not in event]
    whole = rebuilt("chat", events)
    assert whole == {name: recorded["reply"][name] for name in recorded["reply"] if name not in ("usage", "timings")}


def test_an_error_within_a_stream_of_messages_is_the_engine_s_own() -> None:
    error = {"code": 500, "message": "decode failed", "type": "server_error"}
    with pytest.raises(EngineError) as caught:
        rebuild_message([*parsed(RECORDED["msg"]["events"])[:3], error], Request({}, detokenize))
    assert (caught.value.status, json.loads(caught.value.encoded())) == (500, {"error": error})


def test_a_stream_of_messages_without_its_beginning_cannot_tell_what_the_prompt_had() -> None:
    with pytest.raises(NotRebuildableError):
        rebuilt("msg", RECORDED["msg"]["events"][1:])


def test_two_blocks_in_one_place_cannot_be_told_apart() -> None:
    events = RECORDED["msg"]["events"]
    with pytest.raises(NotRebuildableError):
        rebuilt("msg", [*events[:2], *events[1:]])


def test_thoughts_and_their_signature_make_one_block() -> None:
    def delta(index: int, **fields: str) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": index, "delta": {"type": "x_delta", **fields}}

    events = parsed(RECORDED["msg"]["events"])
    thinking = {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}
    text = {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}
    blocks = [
        thinking,
        delta(0, thinking="a"),
        delta(0, thinking="b"),
        delta(0, signature=""),
        text,
        delta(1, text="c"),
    ]
    whole = rebuild_message([events[0], *blocks, *events[-2:]], Request({}, detokenize))
    assert whole["content"] == [
        {"type": "thinking", "thinking": "ab", "signature": ""},
        {"type": "text", "text": "c"},
    ]
