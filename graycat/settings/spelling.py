"""Variables that look like settings of graycat and are none: mostly misspelt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches

from graycat.settings import Settings
from graycat.settings.rules import variable_of

PREFIX = "GRAYCAT_"
#: A variable of ``docker/compose.yml``, whose file of settings may lie where graycat is started.
OF_COMPOSE = "GRAYCAT_VERSION"
#: How alike a name without the prefix must be to count as misspelt (0 to 1): most variables are of other programs.
LIKENESS, LIKENESS_OF_OTHERS = 0.6, 0.85
#: Shorter names are like too many others (PORT, HOST).
MIN_CHARS_OF_OTHERS = 6


def unknown_names(env: Mapping[str, str]) -> dict[str, str]:
    """Return names in ``env`` that no setting has, each with the nearest name of a setting, or '' if none is near."""
    known = [variable_of(setting) for setting in fields(Settings)]
    found = {}
    for name in sorted(env.keys() - {*known, OF_COMPOSE}):
        if name.startswith(PREFIX):
            found[name] = _nearest(name, known, LIKENESS)
        elif len(name) >= MIN_CHARS_OF_OTHERS and _nearest(name, known, LIKENESS_OF_OTHERS):
            found[name] = _nearest(name, known, LIKENESS_OF_OTHERS)
    return found


def describe_unknown(env: Mapping[str, str]) -> list[str]:
    """Return a sentence for each name in ``env`` that looks like a setting and is none."""
    texts = []
    for name, nearest in unknown_names(env).items():
        text = f"{name} is no setting of graycat"
        if nearest:
            text += f"; did you mean {nearest}?"
        texts.append(text)
    return texts


def _nearest(name: str, known: list[str], likeness: float) -> str:
    # A missing or a needless prefix is the commonest mistake.
    for candidate in (name.removeprefix(PREFIX), PREFIX + name):
        if candidate in known:
            return candidate
    # The prefix would make any two names alike.
    by_rest = {candidate.removeprefix(PREFIX): candidate for candidate in known}
    nearest = get_close_matches(name.removeprefix(PREFIX), by_rest, n=1, cutoff=likeness)
    if not nearest:
        return ""
    return by_rest[nearest[0]]
