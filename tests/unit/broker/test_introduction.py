from __future__ import annotations

import pytest

from graycat.broker.introduction import no_introduction


def test_neither_old_nor_new_releases_of_redis_py_introduce_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graycat.broker.introduction.find_spec", lambda _: None)
    assert no_introduction() == {"lib_name": None, "lib_version": None}
    monkeypatch.setattr("graycat.broker.introduction.find_spec", lambda _: object())
    assert no_introduction() == {"driver_info": None}
