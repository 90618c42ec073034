from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import pytest

from graycat.settings import Settings, rules


@dataclass(frozen=True, kw_only=True)
class Group:
    """A field of each sort."""

    size: int = rules.positive(1)
    listen: int = rules.tcp_port(1, "LISTEN")
    first: int = rules.base_port(10)
    level: str = rules.choice("LOW", ("LOW", "HIGH"))
    note: str = rules.plain("")
    key: str = rules.secret(min_chars=4)
    word: str = rules.password("WORD")
    address: str = rules.url()
    store: str = rules.secret_url()
    files: str = rules.signed_urls()
    places: str = rules.named_urls()
    tokens: str = rules.named_secrets()


def complaint(name: str, value: Any) -> str:
    return rules.complaint(Group.__dataclass_fields__[name], value)


@pytest.mark.parametrize(
    ("name", "good", "bad", "words"),
    [
        ("size", 0.5, 0, "GRAYCAT_SIZE must be a number above zero"),
        ("size", 1, float("inf"), "above zero"),
        ("size", 1, float("nan"), "above zero"),
        ("listen", 65535, 65536, "LISTEN must be a port, 1 to 65535"),
        ("listen", 1, 0, "a port"),
        ("first", 0, 10, "GRAYCAT_FIRST must be a port below 10, or 0 for none"),
        ("first", 9, -1, "a port below 10"),
        ("level", "high", "middle", "GRAYCAT_LEVEL must be one of LOW, HIGH"),
        ("key", "", "abc", "GRAYCAT_KEY must have 4 characters at least"),
    ],
)
def test_a_field_complains_by_its_own_rule(name: str, good: Any, bad: Any, words: str) -> None:
    assert complaint(name, good) == ""
    assert words in complaint(name, bad)
    assert complaint("note", bad) == ""


@pytest.mark.parametrize(
    ("name", "value", "secrets"),
    [
        ("note", "anything", []),
        ("size", 7, []),
        ("key", "", []),
        ("key", "hush", ["hush"]),
        ("word", "p@ss", ["p@ss", "p%40ss"]),
        ("address", "http://me:p%40ss@box", ["p%40ss", "p@ss"]),
        ("address", "http://box", []),
        ("store", "s3://me:pass@box", ["s3://me:pass@box", "pass", "pass"]),
        ("files", "https://a/f?short=1, https://b/g?signature=abcdefgh", ["signature=abcdefgh"]),
        ("places", "a=sftp://me:pass@box,b=file:///srv", ["pass", "pass"]),
        ("tokens", "game:hush-hush, bare-secret ,", ["hush-hush", "bare-secret"]),
    ],
)
def test_a_field_knows_what_in_its_value_is_secret(name: str, value: Any, secrets: list[str]) -> None:
    assert rules.secrets_in(Group.__dataclass_fields__[name], value) == secrets


def test_what_may_hold_a_secret_is_not_in_the_representation() -> None:
    assert [field.name for field in fields(Group) if rules.is_secret(field)] == [
        *("key", "word", "address", "store", "files", "places", "tokens")
    ]
    assert "hush" not in repr(Group(key="hush", word="hush", tokens="game:hush"))


def test_no_setting_is_hidden_whose_secrets_are_not_found() -> None:
    for field in fields(Settings):
        assert field.repr is not rules.is_secret(field), field.name


def test_every_number_with_a_unit_has_a_rule() -> None:
    units = ("_s", "_bytes", "_pixels", "_chars", "_steps", "_items")
    unchecked = [f.name for f in fields(Settings) if f.name.endswith(units) and "check" not in f.metadata]
    assert unchecked == []
