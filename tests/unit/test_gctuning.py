from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from graycat.gctuning import settle_memory


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_is_loaded_is_left_alone_and_what_comes_is_collected() -> None:
    loaded: list[object] = [[]]
    settle_memory()
    assert gc.get_freeze_count() > 1000
    assert not any(found is loaded for found in gc.get_objects())
    later: list[object] = [loaded]
    assert any(found is later for found in gc.get_objects())
