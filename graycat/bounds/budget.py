"""What a request has used up of its limits, and how a refusal is worded."""

from __future__ import annotations

from typing import NoReturn

from graycat.errors import GrammarTooLarge, RequestError, TooComplex
from graycat.settings import Settings, variable

#: A place in a body: the place around it, and a key or index. The body itself is None.
Place = tuple["Place | None", str | int] | None
#: Characters of a key that a message repeats.
MAX_KEY_CHARS = 60
#: llama.cpp spells a repetition out up to this count; above it only the lower count is kept.
SPELLED_OUT = 2000


def name_place(place: Place) -> str:
    """Return a place as callers write it: ``tools[3].function.parameters``; ``the body`` for the body itself."""
    parts: list[str] = []
    while place is not None:
        place, key = place
        if isinstance(key, int):
            parts.append(f"[{key}]")
        else:
            parts.append(f".{key[:MAX_KEY_CHARS]}")
    return "".join(reversed(parts)).removeprefix(".") or "the body"


class Budget:
    """The limits of one request, and what its grammars and schemas have used of them together."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        #: Elements of grammars, with repetitions spelled out.
        self.size = 0
        #: Rules of grammars.
        self.rules = 0
        #: Values in schemas.
        self.nodes = 0

    def check(self, count: int, setting: str, what: str, place: Place) -> None:
        """Raise TooComplex if a count is above its limit. ``what`` is counted, as in "5 tools"."""
        limit = getattr(self.settings, setting)
        if count > limit:
            raise TooComplex(f"{name_place(place)} has {count} {what}; this server takes {limit} ({variable(setting)})")

    def check_bytes(self, count: int, setting: str, place: Place) -> None:
        """Raise GrammarTooLarge if a text is longer than its limit in bytes."""
        limit = getattr(self.settings, setting)
        if count > limit:
            raise GrammarTooLarge(
                f"{name_place(place)} has {count} bytes; this server takes {limit} ({variable(setting)})"
            )

    def add_rule(self, place: Place) -> None:
        """Count one rule of a grammar. Raises TooComplex."""
        self.rules += 1
        self.check(self.rules, "max_grammar_rules", "rules", place)

    def add_nodes(self, count: int, place: Place) -> None:
        """Count values of a schema. Raises TooComplex."""
        self.nodes += count
        self.check(self.nodes, "max_schema_nodes", "values, with what came before it,", place)

    def add_repetition(self, elements: int, place: Place) -> None:
        """Count elements that an engine makes of a repetition. Raises TooComplex."""
        self.size += elements
        self.check(self.size, "max_grammar_size", "elements, with repetitions spelled out,", place)

    def check_range(self, low: int, high: int | None, place: Place) -> None:
        """Check the counts of one repetition; ``high``: None if it has no end. Raises RequestError, TooComplex."""
        if high is not None and low > high:
            raise RequestError(f"{name_place(place)} repeats at least {low} and at most {high} times")
        self.check(max(low, high or 0), "max_repetition", "repetitions", place)


def refuse(place: Place, wrong: str) -> NoReturn:
    """Raise RequestError for what no engine can use."""
    raise RequestError(f"{name_place(place)} {wrong}")
