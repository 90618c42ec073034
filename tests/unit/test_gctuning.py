from __future__ import annotations

import gc
from collections.abc import Iterator
from weakref import ref

import pytest

from graycat import gctuning
from graycat.gctuning import (
    DUE_AFTER,
    MAX_GROWTH_BYTES,
    NEVER,
    FullCollections,
    resident_bytes,
    settle_memory,
    without_collections,
)

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    # The objects of all tests that were found: each full collection would walk through a million of them.
    gc.freeze()
    yield
    gc.freeze()
    gc.set_threshold(*thresholds)


class Cycle:
    """What only the garbage collector finds."""

    def __init__(self, size: int = 0) -> None:
        self.itself = self
        self.bytes = bytearray(size)


def old_garbage(size: int = 0) -> ref[Cycle]:
    """Return a reference to garbage that has lived for so long that only a full collection finds it."""
    cycle = Cycle(size)
    gc.collect(1)
    return ref(cycle)


def make_due() -> None:
    for _ in range(DUE_AFTER):
        gc.collect(1)


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


def test_no_full_collection_begins_by_itself() -> None:
    gc.set_threshold(1, 1, 1)
    FullCollections()
    assert gc.get_threshold() == (1, 1, NEVER)


def test_garbage_is_collected_when_nobody_waits_and_then_not_again_at_once() -> None:
    collections = FullCollections(lambda: MIB)
    gc.collect()
    garbage = old_garbage()
    collections.look(is_idle=True)
    assert garbage() is not None
    make_due()
    collections.look(is_idle=False)
    assert garbage() is not None
    collections.look(is_idle=True)
    assert garbage() is None
    later = old_garbage()
    collections.look(is_idle=True)
    assert later() is not None


def test_a_busy_process_is_collected_if_it_has_grown_since_it_was_smallest() -> None:
    now = [500 * MIB]
    collections = FullCollections(lambda: now[0])
    for now_bytes in (500 * MIB + MAX_GROWTH_BYTES, 100 * MIB, 100 * MIB + MAX_GROWTH_BYTES):
        now[0] = now_bytes
        garbage = old_garbage()
        collections.look(is_idle=False)
        assert garbage() is not None
    now[0] += 1
    collections.look(is_idle=False)
    assert garbage() is None
    # What is left is no garbage.
    garbage = old_garbage()
    collections.look(is_idle=False)
    assert garbage() is not None


def test_a_process_that_cannot_tell_its_memory_for_a_moment_is_not_collected_for_that() -> None:
    now = [500 * MIB]
    collections = FullCollections(lambda: now[0])
    garbage = old_garbage()
    for now_bytes in (0, 500 * MIB, 0, 500 * MIB):
        # No descriptor is left: the process is attacked, and a full collection is what it needs least.
        now[0] = now_bytes
        collections.look(is_idle=False)
    assert garbage() is not None


def test_python_itself_collects_where_the_memory_is_not_known() -> None:
    gc.set_threshold(700, 10, 10)
    FullCollections(lambda: 0)
    assert gc.get_threshold() == (700, 10, 10)


def test_garbage_of_a_busy_process_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gctuning, "MAX_GROWTH_BYTES", 32 * MIB)
    collections = FullCollections()
    began = resident_bytes()
    assert began > MIB
    for _ in range(100):
        old_garbage(4 * MIB)
        collections.look(is_idle=False)
        assert resident_bytes() - began < 64 * MIB
