from __future__ import annotations

import pytest

from graycat.engines.process import libraries


def test_this_machine_has_them() -> None:
    assert libraries.missing() == ""


def test_one_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "LIBRARIES", {"libc.so.6": ("libc6", "glibc"), "libnone.so.1": ("libnone1", "none")})
    assert libraries.missing() == "libnone.so.1: apt-get install libnone1, or dnf install none"


def test_other_systems_than_linux_have_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "LIBRARIES", {"libnone.so.1": ("libnone1", "none")})
    monkeypatch.setattr("sys.platform", "darwin")
    assert libraries.missing() == ""
