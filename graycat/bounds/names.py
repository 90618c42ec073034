"""Names that somebody has misspelt: the sentence that says which one is meant."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from types import MappingProxyType

#: How alike two names must be (0 to 1) for one to be meant by the other.
LIKENESS = 0.6
#: Characters of a name that is quoted, and how many names are compared: callers write documents of any size.
MAX_CHARS, MAX_COMPARED = 60, 2000
#: A list of more names is of no help in a sentence.
MAX_LISTED = 20
_NOTHING: Mapping[str, str] = MappingProxyType({})


def find_nearest(name: str, known: Collection[str], meant: Mapping[str, str] = _NOTHING) -> str:
    """Return the known name that a misspelt one stands for; '' if none is near.

    ``meant``: names of other programs, in small letters, with what they are called here.
    """
    plain = _plain(name[:MAX_CHARS])
    if plain in meant:
        return meant[plain]
    by_plain = {_plain(candidate): candidate for candidate in sorted(known, reverse=True)[:MAX_COMPARED]}
    if plain in by_plain:
        return by_plain[plain]
    near = get_close_matches(plain, by_plain, n=1, cutoff=LIKENESS)
    if near:
        return by_plain[near[0]]
    # A name that was cut short: "sampler" for "sampler_name".
    longer = [candidate for candidate in by_plain if plain and candidate.startswith(f"{plain}_")]
    if not longer:
        return ""
    return by_plain[min(longer, key=len)]


def suggest(name: str, known: Collection[str], meant: Mapping[str, str] = _NOTHING) -> str:
    """Return the end of a sentence about an unknown name: which one is meant, and which there are if those are few."""
    parts = []
    nearest = find_nearest(name, known, meant)
    if nearest:
        parts.append(f"did you mean {nearest!r}?")
    if len(known) <= MAX_LISTED:
        parts.append(f"there are {', '.join(known) or 'none'}")
    return " ".join(parts)


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")
