from __future__ import annotations

import json

import pytest

from graycat.redaction.terminal import one_line, printable


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("\x1b]0;owned\x07", r"\u001b]0;owned\u0007"),
        ("\x9b31m", r"\u009b31m"),
        ("a\rb\x7f\x08", r"a\rb\u007f\u0008"),
        ("exe\u202egnp", r"exe\u202egnp"),
        ("a\u2028b\u2066c", r"a\u2028b\u2066c"),
    ],
)
def test_what_a_terminal_would_obey_is_written_as_an_escape(text: str, written: str) -> None:
    assert printable(text) == one_line(text) == written


def test_lines_and_columns_are_kept_or_not() -> None:
    assert printable("a\tb\nc") == "a\tb\nc"
    assert one_line("a\tb\nc") == r"a\tb\nc"


def test_other_text_stays() -> None:
    text = "Größe 漢字 שלום 👩‍🚀 \u200f \\x1b"
    assert printable(text) == one_line(text) == text


def test_a_document_stays_one() -> None:
    value = {"name": "a\x7f\x1b\nb\u202e"}
    assert json.loads(printable(json.dumps(value, ensure_ascii=False))) == value
