"""What an item is called: the values in which the items of its batch differ, and nothing that is the same in all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from graycat.batches.spec import filenames
from graycat.batches.spec.images import SIZE, Body

#: Characters of the prompt, and of any other value, in a label.
MAX_PROMPT_CHARS, MAX_VALUE_CHARS = 80, 32
#: Characters of all values but the prompt, in a file's name.
MAX_SLUG_CHARS = 96
#: Fields that a label leaves out: the seed has a place of its own, and the others are images.
LEFT_OUT = ("seed", "prompt", "init_images", "mask", "image")
#: Texts that say by themselves what they are. Other values stand behind the name of their field.
SELF_EXPLAINING = ("sampler_name", "scheduler", "sampler_index", "sd_model_checkpoint", "sd_vae")
ELLIPSIS = "…"


class Labels:
    """Names the items that are made of ``bodies``."""

    def __init__(self, bodies: Sequence[Body]) -> None:
        self._fields = _find_varying(bodies)
        prompts = list(dict.fromkeys(_prompt(body) for body in bodies))
        self._has_prompt = len(prompts) > 1 or not self._fields
        #: How many words of each prompt are the same in all. They are left out if the rest would be cut off.
        self._same_words = 0
        if len({filenames.slugify(prompt) for prompt in prompts}) < len(prompts):
            self._same_words = _count_same_words(prompts)

    def label(self, body: Body) -> str:
        """Return the label of an item: ``a dwarf at the bar, Euler a, steps 20``."""
        values = list(self._values(body))
        if self._has_prompt or not values:
            values.insert(0, _cut(self._short_prompt(body), MAX_PROMPT_CHARS))
        return ", ".join(values)

    def slug(self, body: Body) -> filenames.Slug:
        """Return the label as a part of a file's name: ``a-dwarf-at-the-bar-euler-a-steps-20``."""
        parts = [filenames.slugify("-".join(self._values(body)), MAX_SLUG_CHARS)]
        if self._has_prompt or not parts[0]:
            parts.insert(0, filenames.slugify(self._short_prompt(body)))
        return filenames.Slug("-".join(filter(None, parts)))

    def _short_prompt(self, body: Body) -> str:
        words = _prompt(body).split()
        return " ".join(words[self._same_words :]) or _prompt(body)

    def _values(self, body: Body) -> Iterator[str]:
        """Yield the values in which the items differ, without the prompt."""
        for name in self._fields:
            if name == SIZE:
                yield f"{body.get('width', '')}x{body.get('height', '')}"
            elif name in body:
                yield from _describe(name, body[name])


def _find_varying(bodies: Sequence[Body]) -> list[str]:
    """Return the fields that do not have the same value in all bodies, in the order of the bodies."""
    names = dict.fromkeys(name for body in bodies for name in body if name not in LEFT_OUT)
    varying = []
    for name in names:
        first = bodies[0].get(name)
        if any(body.get(name) != first for body in bodies):
            varying.append(SIZE if name in ("width", "height") else name)
    return list(dict.fromkeys(varying))


def _count_same_words(prompts: Sequence[str]) -> int:
    """Return with how many words all prompts begin, one word less than the shortest of them has at most."""
    split = [prompt.split() for prompt in prompts]
    count = 0
    for words in zip(*split, strict=False):
        if len(set(words)) > 1:
            break
        count += 1
    return min(count, *(max(len(words) - 1, 0) for words in split))


def _describe(name: str, value: Any) -> Iterator[str]:
    """Yield the parts of a label that stand for one field. Lists, which may hold images, have none."""
    if isinstance(value, dict):
        for inner, inner_value in value.items():
            if not isinstance(inner_value, dict):
                yield from _describe(inner, inner_value)
    elif isinstance(value, (str, int, float)):
        text = _cut(str(value), MAX_VALUE_CHARS)
        if name not in SELF_EXPLAINING:
            text = f"{name} {text}".strip()
        yield text


def _prompt(body: Body) -> str:
    return str(body.get("prompt", ""))


def _cut(text: str, max_chars: int) -> str:
    """Return a text on one line, cut if it is longer than that."""
    text = " ".join(text.split())
    if len(text) > max_chars:
        text = text[: max_chars - 1].rstrip() + ELLIPSIS
    return text
