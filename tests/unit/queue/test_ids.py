from __future__ import annotations

import re
from fnmatch import fnmatchcase
from hashlib import sha256

import pytest

from graycat.families import BY_NAME, FAMILIES
from graycat.queue import ids as taskids
from graycat.queue.kinds import LLM_KINDS, SD_KINDS


@pytest.mark.parametrize("kind", [*LLM_KINDS, *SD_KINDS])
def test_an_id_tells_whose_work_its_task_is(kind: str) -> None:
    ids = [taskids.new_task_id(kind) for _ in range(100)]
    assert len(set(ids)) == 100
    assert all(re.fullmatch("[0-9a-f]{32}", task_id) for task_id in ids)
    ours, others = ("llm", "sd") if kind.startswith("llm.") else ("sd", "llm")
    for task_id in ids:
        assert taskids.is_id_for(task_id, kind)
        assert not taskids.is_id_for(task_id, f"{others}.anything")
        assert fnmatchcase(task_id, BY_NAME[ours].id_pattern)
        assert not fnmatchcase(task_id, BY_NAME[others].id_pattern)


def test_the_families_of_ids_that_are_given_out_never_change() -> None:
    # These ids are in brokers, in callers' databases and in the access rules of boxes.
    for digit in "01234567":
        assert taskids.is_id_for(digit * 32, "llm.x")
    for digit in "89abcdef":
        assert taskids.is_id_for(digit * 32, "sd.x")


def test_every_id_is_of_one_family() -> None:
    digits = "".join(family.id_digits for family in FAMILIES)
    assert len(set(digits)) == len(digits)
    for digit in digits:
        assert sum(taskids.is_id_for(digit * 32, family.name) for family in FAMILIES) == 1
    assert not taskids.is_id_for("0" * 32, "control.deliver")
    assert taskids.is_id_for("somebody-else-s", "llm.x")


@pytest.mark.parametrize(("text", "made"), [("0" * 32, True), ("f" * 32, True), ("0" * 31, False), ("Z" * 32, False)])
def test_an_id_that_was_made_here_has_a_form(text: str, made: bool) -> None:
    assert bool(taskids.TASK_ID.fullmatch(text)) is made


@pytest.mark.parametrize(("kind", "family"), [("llm.quick", "llm"), ("sd", "sd"), ("control", "llm")])
def test_no_task_has_the_id_that_stands_for_none(kind: str, family: str) -> None:
    task_id = taskids.unused_task_id(kind)
    assert fnmatchcase(task_id, BY_NAME[family].id_pattern)
    assert len(task_id) < taskids.CHARS


def test_a_digest_stands_for_one_id_in_each_family() -> None:
    digest = sha256(b"mine").hexdigest()[:32]
    ids = taskids.task_ids_by_family(digest)
    assert set(ids) == set(BY_NAME)
    assert ids == {name: taskids.task_id_for(f"{name}.any", digest) for name in ids}
    # Idempotent: an id of its family stays as it is.
    assert all(taskids.task_id_for(name, task_id) == task_id for name, task_id in ids.items())
