from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from graycat.gctuning import settle_memory, without_collections


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


def test_nothing_is_collected_while_modules_are_loaded_however_that_ends() -> None:
    @without_collections()
    def load() -> None:
        assert not gc.isenabled()
        raise ImportError

    with pytest.raises(ImportError):
        load()
    assert gc.isenabled()


def test_a_block_inside_of_another_leaves_its_end_to_the_outer_one() -> None:
    with without_collections():
        with without_collections():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
