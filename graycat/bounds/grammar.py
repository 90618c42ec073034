"""Bounds of grammars (GBNF) and of the patterns (regular expressions) in schemas, read without building anything.

llama.cpp spells repetitions out: ``x{2,5}`` becomes two elements and three rules. What is repeated, how often, and what
lies inside of what is all that is looked at here; whether the rest makes sense is for the engine to say. Source:
llama.cpp's ``src/llama-grammar.cpp`` and ``common/json-schema-to-grammar.cpp``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from graycat.bounds.budget import SPELLED_OUT, Budget, Place, refuse

# Possessive: a long run of blanks is read once.
_COUNTS = r"\{\s*+(?P<low>[0-9]*+)\s*+(?P<comma>,?+)\s*+(?P<high>[0-9]*+)\s*+\}"
#: The parts of a grammar that matter; text between them is one element, or several that each count as one.
_GRAMMAR_PART = re.compile(
    r'\s*+(?:"(?P<literal>(?:[^"\\]|\\.)*)"?|\[(?P<set>(?:[^]\\]|\\.)*)\]?|' + _COUNTS + r"|(?P<rule>::=)"
    r"|(?P<mark>[()|*+?])|(?P<skip>#[^\n]*)|(?P<item>[\w.-]+|.))",
    re.DOTALL,
)
#: The same of a pattern. ``group``: an opening parenthesis with what says that it is none to repeat.
_PATTERN_PART = re.compile(
    r"\[(?P<set>(?:[^]\\]|\\.)*)\]?|" + _COUNTS + r"|(?P<brace>\{[^}]*\}?)|(?P<group>\(\?(?:<[=!]|.)?)"
    r"|(?P<mark>[()|*+?])|(?P<item>\\.|[^][(){}|*+?\\]+|.)",
    re.DOTALL,
)
#: More digits than any count that is accepted.
_MAX_DIGITS = 9
_ABOVE_ALL = 1_000_000_000


@dataclass(slots=True)
class _Group:
    """What lies between two parentheses, or in one rule, as far as it was read."""

    #: Alternatives so far.
    alternatives: int = 1
    #: Whether there is something to repeat, how many elements it has, and how often its own parts repeat.
    has_item: bool = False
    size: int = 1
    times: int = 1
    #: The most that any part of the group repeats.
    most: int = 1
    #: Whether the group matches without being an item itself: it looks ahead or behind.
    looks_around: bool = False

    def set_item(self, size: int = 1, times: int = 1) -> None:
        """Note what a repetition that comes next would repeat."""
        self.has_item, self.size, self.times = True, size, times


class _Reader:
    """Reads a grammar or a pattern once, from left to right."""

    def __init__(self, parts: re.Pattern[str], budget: Budget, place: Place) -> None:
        self._parts = parts
        self._budget = budget
        self._place = place
        self._groups = [_Group()]

    def read(self, text: str) -> None:
        """Read a whole text. Raises RequestError, TooComplex."""
        # Blanks at the end would be tried again from each of them.
        for match in self._parts.finditer(text.rstrip()):
            kind = match.lastgroup
            if kind == "skip":
                continue
            self._read_part(kind or "", match)

    def _read_part(self, kind: str, match: re.Match[str]) -> None:
        group = self._groups[-1]
        if kind in ("literal", "set"):
            group.set_item(size=len(match[kind]) or 1)
        elif kind == "item":
            # A pattern's beginning is nothing that could be repeated.
            if match["item"] != "^":
                group.set_item()
        elif kind == "mark":
            self._read_mark(match["mark"])
        elif kind == "group":
            self._open(looks_around=match[0] != "(?:")
        elif kind == "rule":
            self._budget.add_rule(self._place)
            self._groups = [_Group()]
        elif kind == "brace":
            self._require_item()
        else:
            self._repeat(match)

    def _read_mark(self, mark: str) -> None:
        group = self._groups[-1]
        if mark == "(":
            self._open()
        elif mark == ")":
            self._close()
        elif mark == "|":
            group.alternatives += 1
            group.has_item = False
            self._budget.check(group.alternatives, "max_grammar_alternatives", "alternatives", self._place)
        else:
            self._require_item()

    def _open(self, looks_around: bool = False) -> None:
        self._groups.append(_Group(looks_around=looks_around))
        self._budget.check(len(self._groups) - 1, "max_json_depth", "levels of parentheses", self._place)

    def _close(self) -> None:
        if len(self._groups) == 1:
            # One too many; the engine says so.
            return
        inner = self._groups.pop()
        outer = self._groups[-1]
        outer.most = max(outer.most, inner.most)
        if not inner.looks_around:
            outer.set_item(times=inner.most)

    def _require_item(self) -> None:
        # Of a grammar the engine itself says so.
        if self._parts is _PATTERN_PART and not self._groups[-1].has_item:
            refuse(self._place, "repeats nothing")

    def _repeat(self, match: re.Match[str]) -> None:
        """Take a repetition ``{low,high}``."""
        if not match["low"] and not match["high"]:
            return
        self._require_item()
        group = self._groups[-1]
        low = _parse_count(match["low"])
        high: int | None = low
        if match["comma"]:
            high = None
            if match["high"]:
                high = _parse_count(match["high"])
        self._budget.check_range(low, high, self._place)

        count = max(low, high or 0, 1)
        group.times *= count
        self._budget.check(group.times, "max_repetition", "repetitions inside each other", self._place)
        group.most = max(group.most, group.times)
        # A repetition of a repetition repeats all that the first one was spelled out to.
        group.size *= min(count, SPELLED_OUT)
        self._budget.add_repetition(group.size, self._place)


def _parse_count(digits: str) -> int:
    """Return a count; one of very many digits is not computed, but is above every limit all the same."""
    if len(digits) > _MAX_DIGITS:
        return _ABOVE_ALL
    return int(digits or 0)


def check_grammar(text: str, budget: Budget, place: Place) -> None:
    """Check a grammar. Raises RequestError, TooComplex, GrammarTooLarge."""
    budget.check_bytes(len(text.encode(errors="replace")), "max_grammar_bytes", place)
    _Reader(_GRAMMAR_PART, budget, place).read(text)


def check_pattern(text: str, budget: Budget, place: Place) -> None:
    """Check a regular expression. Raises RequestError, TooComplex, GrammarTooLarge."""
    budget.check_bytes(len(text), "max_grammar_bytes", place)
    _Reader(_PATTERN_PART, budget, place).read(text)
