"""A broker that has forgotten: what it knew at the moment to which it goes back, and what it may have lost since."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from chaos import facts as facts_
from chaos.audit import Violation
from chaos.facts import Facts
from chaos.system import System
from graycat.queue.models import TERMINAL_STATES

#: Kinds of violations that may come of it; with these words behind them a fault can permit them.
MAY_COME = ("lost", "twice", "batch")
FORGOTTEN = "since the snapshot"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the broker had: names of tasks, ids of batches and their prompts. ``ended``: those whose work was done."""

    known: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()

    @classmethod
    def of(cls, system: System) -> Snapshot:
        """Return what the broker has now. To be called before it is copied: what is in it then must be in the copy."""
        known, ended = set(), set()
        for record in facts_.read_records(system).values():
            name = record.get("request_id", "")
            known.add(name)
            if record.get("state") in TERMINAL_STATES:
                ended.add(name)
        for batch in system.ledger.batches():
            state = facts_.read_batch(system, batch).state
            if not state.startswith(facts_.UNKNOWN):
                known |= {batch.batch_id, *batch.prompts}
            if state in TERMINAL_STATES:
                ended |= {batch.batch_id, *batch.prompts}
        return cls(frozenset(known), frozenset(ended))

    def may_be_so(self, violation: Violation, facts: Facts) -> bool:
        """Return whether a violation may come of what the broker has forgotten.

        What it did not know may be gone. What it knew must be there, and may have been done again if it had not ended.
        """
        name = violation.subject
        if violation.kind not in MAY_COME:
            return False
        if name not in self.known:
            return True
        records = [task for task in facts.tasks if task.name == name]
        prompts = {prompt for batch in facts.accepted_batches for prompt in batch.prompts}
        batches = {batch.batch_id for batch in facts.batches if not batch.state.startswith(facts_.UNKNOWN)}
        is_there = len(records) == 1 or name in prompts or name in batches
        return is_there and name not in self.ended


def mark_forgotten(violations: Iterable[Violation], facts: Facts, snapshot: Snapshot | None) -> list[Violation]:
    """Return the violations; those that may come of what was forgotten have a kind of their own."""
    found = []
    for violation in violations:
        if snapshot is not None and snapshot.may_be_so(violation, facts):
            found.append(replace(violation, kind=f"{violation.kind} {FORGOTTEN}"))
        else:
            found.append(violation)
    return found
