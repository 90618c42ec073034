from __future__ import annotations

import re

import pytest

from graycat.bounds.timezones import load_timezone


def test_a_time_zone_has_its_name() -> None:
    assert load_timezone("Europe/Berlin").key == "Europe/Berlin"


@pytest.mark.parametrize("name", ["Nowhere/Land", "../etc/passwd", "", "/etc/localtime", "a\0b", "x" * 100_000])
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        load_timezone(name)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("europe/berlin", "Europe/Berlin"),
        ("Europe/Berln", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("Rome", "Europe/Rome"),
        ("New York", "America/New_York"),
        ("america/new york", "America/New_York"),
        ("utc", "UTC"),
    ],
)
def test_the_nearest_time_zone_is_named(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"there is no time zone {name!r}; did you mean {nearest!r}?")):
        load_timezone(name)


def test_if_none_is_near_a_name_is_shown() -> None:
    with pytest.raises(ValueError, match="use a name like Europe/Berlin, or UTC"):
        load_timezone("7")
