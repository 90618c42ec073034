"""A broker goes back to a snapshot: only what it may have forgotten is permitted to be gone, or done again."""

from __future__ import annotations

import pytest

from chaos.audit import Violation
from chaos.facts import Batch, Facts, Task
from chaos.faults.broker import LOSES
from chaos.ledger import AcceptedBatch
from chaos.snapshots import Snapshot, mark_forgotten

pytestmark = pytest.mark.not_covered

SNAPSHOT = Snapshot(
    frozenset({"ran", "done", "gone", "b-ran", "p-ran", "b-done", "p-done"}), frozenset({"done", "b-done", "p-done"})
)
FACTS = Facts(
    tasks=[Task("1", "ran", "succeeded"), Task("2", "done", "succeeded"), Task("3", "new", "succeeded")],
    batches=[Batch("b-ran", "failed"), Batch("b-done", "failed"), Batch("b-new", "unknown (404)")],
    accepted_batches=[AcceptedBatch("b-ran", ["p-ran"]), AcceptedBatch("b-done", ["p-done"])],
)


@pytest.mark.parametrize(
    ("kind", "subject", "permitted"),
    [
        # It was accepted since.
        *(("lost", "new", True), ("twice", "new", True), ("batch", "b-new", True)),
        # It had not ended: it may be done again, and must not be gone.
        *(("lost", "ran", True), ("twice", "ran", True), ("twice", "p-ran", True), ("batch", "b-ran", True)),
        ("lost", "gone", False),
        # It had ended.
        *(("lost", "done", False), ("twice", "done", False), ("twice", "p-done", False), ("batch", "b-done", False)),
        # Nobody may wait for ever, and nothing may be left, whatever was forgotten.
        *(("hung stream", "new", False), ("left", "queue llm", False), ("metrics", "usage of images", False)),
        ("not ended", "new", False),
    ],
)
def test_only_what_may_have_been_forgotten_is_permitted(kind: str, subject: str, permitted: bool) -> None:
    (found,) = mark_forgotten([Violation(kind, subject)], FACTS, SNAPSHOT)
    assert (found.kind in LOSES) is permitted
    (plain,) = mark_forgotten([Violation(kind, subject)], FACTS, None)
    assert plain == Violation(kind, subject)


def test_two_tasks_of_one_request_that_was_known_are_never_permitted() -> None:
    facts = Facts(tasks=[Task("1", "ran", "succeeded"), Task("2", "ran", "succeeded")])
    (found,) = mark_forgotten([Violation("twice", "ran")], facts, SNAPSHOT)
    assert found.kind == "twice"
