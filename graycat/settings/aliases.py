"""Names under which callers may ask for a model: ``gpt-4o-mini=gemma-3-270m,gpt-4o=qwen3``."""

from __future__ import annotations

from functools import lru_cache

#: The longest name of a model, and the most aliases.
MAX_NAME_CHARS, MAX_ALIASES = 200, 100


@lru_cache(maxsize=16)
def parse_aliases(text: str) -> dict[str, str]:
    """Return the model that each alias stands for. Raises ValueError with what is wrong, and an entry that is right."""
    aliases: dict[str, str] = {}
    for entry in text.split(","):
        if not entry.strip():
            continue
        alias, equals, model = (part.strip() for part in entry.partition("="))
        if not (equals and alias and model):
            raise ValueError(f"has the entry {entry.strip()[:60]!r}: write ALIAS=MODEL, as in gpt-4o-mini=my-model")
        if max(len(alias), len(model)) > MAX_NAME_CHARS or not (alias + model).isprintable():
            raise ValueError(f"has a name of over {MAX_NAME_CHARS} characters, or with unprintable ones")
        if aliases.setdefault(alias, model) != model:
            raise ValueError(f"gives the alias {alias[:60]!r} two models: leave one of them out")
    _check_targets(aliases)
    return aliases


def _check_targets(aliases: dict[str, str]) -> None:
    if len(aliases) > MAX_ALIASES:
        raise ValueError(f"has more than {MAX_ALIASES} aliases")
    for alias, model in aliases.items():
        if alias == model:
            raise ValueError(f"has an alias of itself, {alias[:60]!r}: leave it out")
        if model in aliases:
            raise ValueError(
                f"has an alias of an alias, {alias[:60]!r}: name the model itself, {aliases[model][:60]!r}"
            )


def check_aliases(text: str) -> str:
    """Return what is wrong with aliases, as the end of a sentence that begins with their variable; '' if nothing is."""
    try:
        parse_aliases(text)
    except ValueError as error:
        return str(error)
    return ""
