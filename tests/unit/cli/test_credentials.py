from __future__ import annotations

from pathlib import Path

import pytest

from graycat.cli.credentials import Credential

FILE = Path("/home/a b/api-token")


@pytest.mark.parametrize(
    ("made", "terminal", "described", "word"),
    [
        ("", True, "that of API_TOKENS", "YOUR_API_TOKEN"),
        ("", False, "that of API_TOKENS", "YOUR_API_TOKEN"),
        ("gc_x", True, "gc_x", "gc_x"),
        ("gc_x", False, f"in {FILE}", "\"$(cat '/home/a b/api-token')\""),
    ],
)
def test_only_a_terminal_shows_a_secret_and_only_one_that_was_made(
    monkeypatch: pytest.MonkeyPatch, made: str, terminal: bool, described: str, word: str
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    credential = Credential("API_TOKENS", FILE, made)
    assert (credential.describe(), credential.word()) == (described, word)
