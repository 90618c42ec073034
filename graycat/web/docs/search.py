"""Finds the sections of guides that contain some words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from graycat.web.docs.library import Guide
from graycat.web.docs.markdown import PARSER

#: Characters of a question that are read, and sections that are shown.
MAX_CHARS, MAX_RESULTS = 100, 30
#: Characters of a section that are shown before and behind the first word.
BEFORE, AFTER = 60, 160
_SPACES = re.compile(r"\s+")
_LINKS = re.compile(r"\]\([^)]*\)")
_MARKS = re.compile(r"[`*|\[#]")


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a guide: what stands behind a heading, up to the next one."""

    slug: str
    guide: str
    anchor: str
    heading: str
    text: str


@dataclass(frozen=True, slots=True)
class Result:
    """A section that was found, and the part of it that was."""

    section: Section
    excerpt: str


class Index:
    """The sections of all guides."""

    def __init__(self, guides: Iterable[Guide]) -> None:
        self._sections = [(section, section.text.lower()) for guide in guides for section in split(guide)]

    def find(self, question: str) -> list[Result]:
        """Return the sections with all words of a question; those that have them in their headings come first.

        Among alike ones the order is that of the guides.
        """
        words = question[:MAX_CHARS].lower().split()
        if not words:
            return []
        found: list[tuple[int, Result]] = []
        for section, text in self._sections:
            title = f"{section.guide} {section.heading}".lower()
            if all(word in text or word in title for word in words):
                missed = sum(word not in title for word in words)
                found.append((missed, Result(section, _excerpt(section.text, text.find(words[0])))))
        found.sort(key=lambda pair: pair[0])
        return [result for _, result in found[:MAX_RESULTS]]


def split(guide: Guide) -> list[Section]:
    """Return the sections of a guide."""
    if not guide.is_markdown:
        return []
    lines = guide.text.splitlines()
    tokens = PARSER.parse(guide.text)
    starts = [
        (token.map[0], str(token.attrGet("id") or ""), content.content)
        for token, content in zip(tokens, tokens[1:], strict=False)
        if token.type == "heading_open" and token.map is not None
    ]
    ends = [start for start, _, _ in starts[1:]] + [len(lines)]
    return [
        Section(guide.slug, guide.title, anchor, _plain(heading), _plain("\n".join(lines[start + 1 : end])))
        for (start, anchor, heading), end in zip(starts, ends, strict=True)
    ]


def _plain(text: str) -> str:
    return _SPACES.sub(" ", _MARKS.sub("", _LINKS.sub("", text))).strip()


def _excerpt(text: str, position: int) -> str:
    """Return the text around a position, from a word's beginning to a word's end where there is a space to cut at."""
    start = max(0, position - BEFORE)
    if start:
        start = text.find(" ", start - 1, position) + 1 or start
    end = max(position, 0) + AFTER
    if end < len(text):
        end = max(text.rfind(" ", position + 1, end + 1), position + AFTER // 2)
    return ("… " if start else "") + text[start:end] + (" …" if end < len(text) else "")
