from __future__ import annotations

import json

import pytest

from graycat.batches.runner.written_prompts import MAX_CHARS, choose_usable, is_usable, read_answer


def answer(content: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": content}}]}).encode()


@pytest.mark.parametrize(
    "prompt",
    [
        "a dwarf at the bar, candle light, oil painting",
        "dragon",
        'a sign that says "Open", neon, night',
        "a (golden:1.2) fox, score_9, 8k",
        "ein Zwerg an der Theke, Kerzenlicht, Ölgemälde",
        "酒馆里的矮人，烛光，油画",
        "гном у стойки, свечи, масло",
        "قزم عند الحانة، ضوء الشموع",
        "बौना, दीपक की रोशनी",
        "a river, a lake, a river bank, a boat",
    ],
)
def test_a_prompt_is_taken(prompt: str) -> None:
    assert is_usable(prompt)


@pytest.mark.parametrize(
    "debris",
    [
        *("", "a", "12", "3.14, 2.71", "Your name:", "Prompts =", "a knight (", "Country: /"),
        *('{"prompt": "a knight"}', '"prompts": [', 'a knight", "a thief', "'name': x", 'a "knight'),
        *("<|im_start|>user", "<b>knight</b>", "[insert name]", "${subject} in a tavern", "{{ prompt }}"),
        *("**Subject**", "```json", "https://example.com/a.png", "a|b", "\\n", "half \ud83d", "a\0b"),
        "a bar, a bar, a bar, a bar",
        "very " * 20 + "old",
        "x" * MAX_CHARS,
        "<lora:knight:1> a knight",
    ],
)
def test_debris_is_no_prompt(debris: str) -> None:
    assert not is_usable(debris)


def test_what_is_there_already_is_not_taken_again() -> None:
    texts = ["1. A knight, fog", "a knight; FOG", "fog, a knight", "- Prompt 2: a thief,", "a thief", "a bard"]
    assert choose_usable(texts, ["a bard!"], ["old lighthouses"]) == ["A knight, fog", "a thief"]
    assert choose_usable(["Old lighthouses."], [], ["old lighthouses"]) == []


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ('{"prompts": ["a\\n knight ", "b", 3]}', ["a knight", "b"]),
        ('{"about": "x", "prompts": ["a", "b, c", "d \\"e\\"", "cut o', ["a", "b, c", 'd "e"']),
        ('```json\n{"prompts": ["a"]}\n```', ["a"]),
        ('{"prompts": ["half \\ud83d"]}', ["half"]),
        ('{"prompts": "a"}', []),
        ("no JSON", []),
        ('{"prompts": [', []),
        ("[1]", []),
    ],
)
def test_an_answer_is_read_as_far_as_it_is_whole(content: str, texts: list[str]) -> None:
    assert read_answer(answer(content)) == texts


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"[" * 100_000, b'{"choices": [{"message": {"content": null}}]}'])
def test_what_is_no_answer_has_no_prompts(raw: bytes) -> None:
    assert read_answer(raw) == []
