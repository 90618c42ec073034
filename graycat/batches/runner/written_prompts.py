"""Which of the texts that a model has written are prompts: whole, readable, and not there already.

A small model answers with names of fields, lists, markup and loops. What is no prompt would cost an image all the same,
so it is dropped here, and the model is asked again.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from json import JSONDecodeError, JSONDecoder
from typing import Any

from graycat.bounds.stored import parse_json
from graycat.images.prompt_controls import is_plain

#: Characters of one prompt. A longer one was cut off by the engine.
MAX_CHARS = 300
#: Letters that a prompt has at least, and their part of it.
MIN_LETTERS, MIN_LETTER_SHARE = 3, 0.5
#: From so many phrases or words on, this part of them must be different: less is a loop.
MIN_PHRASES, PHRASE_SHARE = 4, 0.7
MIN_WORDS, WORD_SHARE = 12, 0.4

#: A number or a mark in front of an entry of a list, and its name.
_LABEL = re.compile(r"^(?:(?:\d{1,3}[.):]|[-*•])\s+)?(?:(?:image\s+)?prompt\s*#?\d{0,3}\s*:\s*)?", re.IGNORECASE)
#: Of JSON, of markup, of templates, of code. Weights in round brackets are a part of prompts.
_DEBRIS = re.compile(r"""[{}<>\[\]\\|`~^]|\*\*|__|\$\w|https?://|["']\s*:|:\s*["']|",\s*["']""")
#: What a whole text does not end with.
_OPEN_END = re.compile(r"[:=(/&+-]$")
_DECODER = JSONDecoder()


def read_answer(answer: bytes) -> list[str]:
    """Return the texts in a chat's answer, each on one line; none if the answer has another form.

    Of an answer that was cut off those that are whole.
    """
    try:
        content = parse_json(answer)["choices"][0]["message"]["content"]
        found = list(_read_texts(content))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return []
    # JSON can write half a character.
    return [" ".join(text.encode(errors="ignore").decode().split()) for text in found]


def _read_texts(content: str) -> Iterator[str]:
    """Yield the strings of the list ``prompts`` in a text of JSON, up to its end or to where it breaks off."""
    try:
        found: Any = json.loads(content)["prompts"]
    except JSONDecodeError:
        found = _read_cut_list(content)
    if isinstance(found, list):
        yield from (text for text in found if isinstance(text, str))


def _read_cut_list(content: str) -> list[str]:
    begin = re.search(r'"prompts"\s*:\s*\[', content)
    texts: list[str] = []
    position = begin.end() if begin else len(content)
    while match := re.compile(r'[\s,]*(?=")').match(content, position):
        try:
            text, position = _DECODER.raw_decode(content, match.end())
        except JSONDecodeError:
            break
        texts.append(text)
    return texts


def choose_usable(texts: Iterable[str], earlier: Sequence[str], not_prompts: Iterable[str] = ()) -> list[str]:
    """Return the texts that are prompts and repeat neither each other nor ``earlier`` ones.

    ``not_prompts``: what the model was told, and may say again.
    """
    seen = {_signature(prompt) for prompt in (*earlier, *not_prompts)}
    usable = []
    for text in texts:
        prompt = _LABEL.sub("", text).strip(" ,;")
        signature = _signature(prompt)
        if is_usable(prompt) and signature not in seen:
            seen.add(signature)
            usable.append(prompt)
    return usable


def is_usable(prompt: str) -> bool:
    """Return whether a text on one line is a whole prompt, in any script."""
    if not MIN_LETTERS <= len(prompt) < MAX_CHARS or not prompt.isprintable():
        return False
    if _DEBRIS.search(prompt) or _OPEN_END.search(prompt) or prompt.count('"') % 2:
        return False
    if prompt.count("(") != prompt.count(")"):
        return False
    letters = sum(1 for char in prompt if unicodedata.category(char)[0] in "LM")
    if letters < MIN_LETTERS or letters < MIN_LETTER_SHARE * len(prompt.replace(" ", "")):
        return False
    # Nobody has read it: it may set nothing, and cost no more than the item was checked for.
    return not _is_loop(prompt) and is_plain(prompt)


def _is_loop(prompt: str) -> bool:
    folded = prompt.casefold()
    phrases = [phrase.strip() for phrase in re.split("[,;.、，。]", folded) if phrase.strip()]
    if len(phrases) >= MIN_PHRASES and len(set(phrases)) < PHRASE_SHARE * len(phrases):
        return True
    words = folded.split()
    return len(words) >= MIN_WORDS and len(set(words)) < WORD_SHARE * len(words)


def _signature(prompt: str) -> frozenset[str]:
    """Return what two prompts share that differ in their order, in marks or in capitals alone."""
    return frozenset(re.findall(r"\w+", unicodedata.normalize("NFKC", prompt).casefold()))
