from __future__ import annotations

from dataclasses import is_dataclass

from graycat.settings import Settings, groups

GROUPS = [value for value in vars(groups).values() if isinstance(value, type) and is_dataclass(value)]


def test_every_group_is_part_of_the_settings() -> None:
    assert set(GROUPS) <= set(Settings.__mro__)


def test_no_setting_stands_in_two_groups() -> None:
    names = [name for group in GROUPS for name in group.__annotations__]
    assert len(names) == len(set(names))
