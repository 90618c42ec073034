from __future__ import annotations

import re
from fnmatch import fnmatchcase
from hashlib import sha256

import pytest

from graycat.queue import ids as taskids
from graycat.queue.kinds import LLM_KINDS, SD_KINDS


@pytest.mark.parametrize("kind", [*LLM_KINDS, *SD_KINDS])
def test_an_id_tells_whose_work_its_task_is(kind: str) -> None:
    ids = [taskids.of_kind(kind) for _ in range(100)]
    assert len(set(ids)) == 100
    assert all(re.fullmatch("[0-9a-f]{32}", task_id) for task_id in ids)
    ours, others = ("llm", "sd") if kind.startswith("llm.") else ("sd", "llm")
    for task_id in ids:
        assert taskids.is_of(task_id, kind)
        assert not taskids.is_of(task_id, f"{others}.anything")
        assert fnmatchcase(task_id, taskids.PATTERNS[ours])
        assert not fnmatchcase(task_id, taskids.PATTERNS[others])


def test_every_id_is_of_one_family() -> None:
    for digit in "0123456789abcdef":
        assert sum(taskids.is_of(digit * 32, kind) for kind in ("llm.x", "sd.x")) == 1
    assert not taskids.is_of("0" * 32, "control.deliver")
    assert taskids.is_of("somebody-else-s", "llm.x")


@pytest.mark.parametrize(("kind", "family"), [("llm.quick", "llm"), ("sd", "sd"), ("control", "llm")])
def test_no_task_has_the_id_that_stands_for_none(kind: str, family: str) -> None:
    task_id = taskids.of_nobody(kind)
    assert fnmatchcase(task_id, taskids.PATTERNS[family])
    assert len(task_id) < taskids.CHARS


def test_a_digest_stands_for_one_id_in_each_family() -> None:
    digest = sha256(b"mine").hexdigest()[:32]
    ids = taskids.of_any_kind(digest)
    assert set(ids) == {"llm", "sd"}
    assert ids == {name: taskids.of_kind(f"{name}.any", digest) for name in ids}
    # Idempotent: an id of its family stays as it is.
    assert all(taskids.of_kind(name, task_id) == task_id for name, task_id in ids.items())
