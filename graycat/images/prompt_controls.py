"""Parameters that engines read out of the text of a prompt, past the fields that graycat checks.

What each engine reads, from its public source:

- sd-server (stable-diffusion.cpp, August 2026): a block of JSON between two tags of its own, which may set every
  parameter: size, steps, images, seed. Refused.
- AUTOMATIC1111's WebUI, Forge, SD.Next: extra networks, ``<KIND:NAME:ARGUMENTS>``. The kinds that add weights to a
  model pass, some for each request; their names may be no paths, because SD.Next opens or downloads those. Any other
  kind is refused: SD.Next has one that applies a style, and extensions register more.
- SD.Next: a style may set parameters and even settings of the engine, for all callers. Such styles are refused.
- AUTOMATIC1111's WebUI, Forge: ``AND`` joins prompts, each of which costs as much as an image of its own. They are
  counted as such.
- The script "Prompts from file or textbox": lines of options, ``--steps 20``. Refused in the arguments of scripts.

Other syntax changes what is in a picture and not what it costs, so it passes: ``(word:1.2)``, ``[from:to:when]``,
``BREAK``, ``{a|b}``, ``__wildcard__``. An infotext in a prompt ("Steps: 20, Sampler: ...") is text for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from graycat.images.errors import PromptParameter, SettingNotAllowed, TooMuchWork
from graycat.images.places import is_place
from graycat.images.texts import walk_texts

#: Kinds of extra networks that add weights to a model.
NETWORK_KINDS = ("lora", "lyco", "hypernet")
#: Each network of a request is loaded from the engine's disk, and stays in its memory.
MAX_NETWORKS = 16
#: Styles of one request.
MAX_STYLES = 32
_EXAMPLE = "a tag like <lora:NAME:1>"

#: The name of sd-server's tags, in any spelling.
_EXTRA_ARGS = re.compile(r"sd[\s_-]*cpp[\s_-]*extra", re.IGNORECASE)
_NETWORK = re.compile(r"<\s*(\w+)\s*:")
#: Engines take comments and choices ({a|b}) out of a prompt before they look for networks: with one of these between
#: "<" and the next ">", nobody can tell which network that will be.
_REPLACED = re.compile(r"[{}|]|/\*|\*/")
_AND = re.compile(r"\bAND\b")
_OPTION_LINE = re.compile(r"^\s*--\w", re.MULTILINE)


def check_controls(body: Mapping[str, Any]) -> None:
    """Raise PromptParameter if a text of a body, at any depth, sets parameters of an engine.

    Raises TooMuchWork for more than ``MAX_NETWORKS`` extra networks, or ``MAX_STYLES`` styles.
    """
    networks = 0
    for path, text in walk_texts(body):
        # Most texts have neither, and a search for these few characters is quick, also in an image.
        if "cpp" in text.lower() and _EXTRA_ARGS.search(text):
            raise PromptParameter(path, "it holds parameters for an engine; send them as fields of the request")
        if "<" not in text:
            continue
        for _ in _iterate_networks(path, text):
            networks += 1
            if networks > MAX_NETWORKS:
                raise TooMuchWork(f"{path!r}: a request may name {MAX_NETWORKS} extra networks, like <lora:NAME:1>").at(
                    path
                )
    styles = body.get("styles")
    if isinstance(styles, list) and len(styles) > MAX_STYLES:
        raise TooMuchWork(f"'styles' may name {MAX_STYLES} styles, not {len(styles)}").at("styles")


def _iterate_networks(path: str, text: str) -> Iterator[str]:
    """Yield the arguments of each extra network in a text. Raises PromptParameter for one that may not be there."""
    # What is behind the last ">" holds none.
    for part in text.split(">")[:-1]:
        _, found, tag = part.partition("<")
        if found and _REPLACED.search(tag):
            raise PromptParameter(path, f"{_EXAMPLE} must be plain text from '<' to '>', without {{a|b}} and comments")
        for network in _NETWORK.finditer(part):
            if network[1].lower() not in NETWORK_KINDS:
                kinds = ", ".join(NETWORK_KINDS)
                raise PromptParameter(path, f"the tag <{network[1][:40]}:...> is not accepted here; kinds: {kinds}")
            arguments = part[network.end() :]
            for argument in (arguments, *re.split("[:=]", arguments)):
                if is_place(argument):
                    raise PromptParameter(path, f"{_EXAMPLE} must name a file by its name in the engine's folder")
            yield arguments


def count_joined_prompts(body: Mapping[str, Any]) -> int:
    """Return how many prompts ``AND`` joins in a body's prompt; each costs as much as an image of its own."""
    most = 1
    for field in ("prompt", "hr_prompt"):
        text = body.get(field)
        if isinstance(text, str):
            most = max(most, len(_AND.findall(text)) + 1)
    return most


def is_plain(prompt: str) -> bool:
    """Return whether a prompt that nobody has read sets nothing and costs no more than another."""
    try:
        check_controls({"prompt": prompt})
    except (PromptParameter, TooMuchWork):
        return False
    return count_joined_prompts({"prompt": prompt}) == 1


def check_script_lines(path: str, value: Any) -> None:
    """Raise PromptParameter if a script's arguments hold lines of options, like ``--steps 20``."""
    for text_path, text in walk_texts(value, path):
        if "--" in text and _OPTION_LINE.search(text):
            raise PromptParameter(text_path, "a line of a script's argument may not begin with an option (--name)")


def check_styles(body: Mapping[str, Any], style_lists: Iterable[Any]) -> None:
    """Raise SettingNotAllowed if a body names a style that sets parameters of its own.

    ``style_lists``: what each engine answers to ``/prompt-styles``. SD.Next's entries have a text ``extra``, written as
    in an infotext.
    """
    styles = body.get("styles")
    if not isinstance(styles, list):
        return
    setting: set[str] = set()
    for listed in style_lists:
        if isinstance(listed, list):
            setting.update(str(style["name"]) for style in listed if _sets_parameters(style))
    for index, name in enumerate(styles):
        if isinstance(name, str) and name in setting:
            raise SettingNotAllowed(
                f"'styles[{index}]' names a style that sets parameters of the engine by itself; send its prompt and "
                "its parameters as fields of the request"
            ).at(f"styles[{index}]")


def _sets_parameters(style: Any) -> bool:
    return isinstance(style, dict) and "name" in style and bool(str(style.get("extra") or "").strip())
