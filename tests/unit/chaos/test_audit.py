"""The audit finds each kind of violation on made-up facts, and nothing where all is well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chaos.audit import MORE_CONNECTIONS, MORE_DESCRIPTORS, MORE_MEMORY_MB, MORE_THREADS, check
from chaos.facts import Batch, Facts, Resources, Task, Usage, add_up
from chaos.ledger import Accepted, AcceptedBatch, Call, Caller, Outcome

#: No line of graycat runs here.
pytestmark = pytest.mark.not_covered

BASE = Resources(threads=10, descriptors=30, memory_mb=80.0)
USED = Usage(requests=4, images=3, prompt_tokens=2, completion_tokens=40)


def task(name: str, **changes: Any) -> Task:
    """Return a task that has succeeded in its first attempt."""
    made = Task(
        task_id=f"id of {name}", name=name, state="succeeded", kind="llm.completion", attempt=1, calls=1, ends=1,
        submitted_ms=1_000, started_ms=2_000, begun_ms=2_000, finished_ms=3_000, queue_ttl_ms=60_000,
        exec_timeout_ms=600_000,
    )  # fmt: skip
    return replace(made, **changes)


def good() -> Facts:
    """Return facts in which all is well: a stream, a task with an image, and a batch of two."""
    stream = Call("s", Caller.GAME, outcome=Outcome.WHOLE, arrivals=[1.0, 2.0])
    image = task("i", kind="sd.txt2img", images=1)
    return Facts(
        calls=[stream, Call("i", Caller.REST, outcome=Outcome.WHOLE)],
        accepted=[Accepted("i", Caller.REST, "i", images=1)],
        accepted_batches=[AcceptedBatch("b", ["b-1", "b-2"])],
        tasks=[task("s"), image],
        batches=[Batch("b", "succeeded", lines=[("b-1", 1), ("b-2", 2)], files=2)],
        asked=Counter({"s": 1, "i": 1, "b-1": 1, "b-2": 2}),
        left={"queue llm": 0},
        resources={"web": replace(BASE)},
        base={"web": replace(BASE)},
        connections=20,
        base_connections=20,
        usage=replace(USED),
        recorded=replace(USED),
        gauges={"graycat_queue_depth": 0.0, "graycat_stored_bytes": 7.0},
    )


def kinds(facts: Facts) -> list[str]:
    """Return the kinds of violations, each once."""
    return sorted({violation.kind for violation in check(facts)})


def test_nothing_is_found_where_all_is_well() -> None:
    assert check(good()) == []


@pytest.mark.parametrize(
    ("outcome", "caller", "kind"),
    [
        (Outcome.OPEN, Caller.GAME, "hung stream"),
        (Outcome.OPEN, Caller.BATCH, "hung request"),
        (Outcome.WRONG, Caller.GAME, "wrong answer stream"),
        (Outcome.BROKEN, Caller.GAME, "broken stream"),
        (Outcome.ERROR, Caller.WEBUI, "error image"),
        (Outcome.REFUSED, Caller.REST, "refused request"),
        (Outcome.REFUSED, Caller.OPERATOR, "refused command"),
    ],
)
def test_what_a_caller_got(outcome: Outcome, caller: Caller, kind: str) -> None:
    facts = good()
    facts.calls.append(Call("x", caller, outcome=outcome))
    assert kinds(facts) == [kind]


def set_task(name: str, **changes: Any) -> Callable[[Facts], None]:
    """Return a change of one task."""

    def change(facts: Facts) -> None:
        facts.tasks = [replace(found, **changes) if found.name == name else found for found in facts.tasks]

    return change


def set_batch(**changes: Any) -> Callable[[Facts], None]:
    """Return a change of the batch."""

    def change(facts: Facts) -> None:
        facts.batches = [replace(facts.batches[0], **changes)]

    return change


def set_web(**changes: Any) -> Callable[[Facts], None]:
    """Return a change of what web holds."""

    def change(facts: Facts) -> None:
        facts.resources["web"] = replace(BASE, **changes)

    return change


def set_fact(**changes: Any) -> Callable[[Facts], None]:
    """Return a change of any fact."""

    def change(facts: Facts) -> None:
        for name, value in changes.items():
            setattr(facts, name, value)

    return change


def lose_record(facts: Facts) -> None:
    facts.tasks = [found for found in facts.tasks if found.name != "i"]


def make_two(facts: Facts) -> None:
    facts.tasks.append(task("i", task_id="another", kind="sd.txt2img", images=1))


def ask_for_nobody(facts: Facts) -> None:
    facts.asked["nobody's"] = 1


def ask_batch_again(facts: Facts) -> None:
    facts.asked["b-1"] = 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lose_record, ["lost"]),
        (set_task("i", state="running"), ["not ended"]),
        (set_task("i", state="failed"), ["task failed"]),
        (set_task("i", images=0), ["wrong images"]),
        (set_task("i", images=2), ["wrong images"]),
        (set_task("s", state="failed"), ["lost"]),
        (set_task("s", state="queued"), ["lost", "not ended"]),
        (make_two, ["twice"]),
        (ask_for_nobody, ["lost"]),
        (ask_batch_again, ["twice"]),
        (set_task("s", calls=2), ["twice"]),
        (set_task("s", calls=0), ["wrong answer task"]),
        (set_task("s", ends=2), ["ends"]),
        (set_task("s", ends=0), ["ends"]),
        (set_task("s", ends_last=False), ["ends"]),
        (set_task("s", started_ms=90_000, finished_ms=91_000), ["late"]),
        (set_task("s", begun_ms=2_000, finished_ms=800_000), ["late"]),
        (set_task("s", started_ms=0, state="expired", finished_ms=90_000), ["late", "lost"]),
        (set_batch(state="running"), ["batch"]),
        (set_batch(lines=[("b-1", 1)]), ["batch"]),
        (set_batch(lines=[("b-1", 1), ("b-1", 1), ("b-2", 2)]), ["batch"]),
        (set_batch(files=3), ["batch"]),
        (set_batch(damaged=["b-1.png"]), ["batch"]),
        (set_fact(left={"queue llm": 1}), ["left"]),
        (set_fact(left={"turns llm": -1}), ["left"]),
        (set_fact(gauges={"graycat_queue_depth": 1.0}), ["metrics"]),
        (set_fact(missing_parts=["beat"]), ["down"]),
        (set_fact(hanging=["a thread"]), ["hung caller"]),
        (set_fact(troubles=["KeyError"]), ["harness"]),
        (set_fact(usage=replace(USED, requests=5)), ["metrics"]),
        (set_fact(usage=replace(USED, failed=1)), ["metrics"]),
        (set_fact(usage=replace(USED, cancelled=1)), ["metrics"]),
        (set_fact(usage=replace(USED, images=4)), ["metrics"]),
        (set_fact(usage=replace(USED, prompt_tokens=4)), ["metrics"]),
        (set_fact(recorded=replace(USED, completion_tokens=80)), ["metrics"]),
        (set_fact(connections=20 + MORE_CONNECTIONS + 1), ["grown"]),
        (set_web(threads=10 + MORE_THREADS + 1), ["grown"]),
        (set_web(descriptors=30 + MORE_DESCRIPTORS + 1), ["grown"]),
        (set_web(memory_mb=80 + MORE_MEMORY_MB + 1), ["grown"]),
    ],
)
def test_each_kind_of_violation_is_found(change: Callable[[Facts], None], expected: list[str]) -> None:
    facts = good()
    change(facts)
    assert kinds(facts) == expected


def test_a_task_that_its_caller_has_cancelled_may_be_cancelled() -> None:
    facts = good()
    facts.accepted = [Accepted("i", Caller.REST, "i", images=1, may_end=("succeeded", "cancelled"))]
    set_task("i", state="cancelled", images=0)(facts)
    assert check(facts) == []


def test_the_usage_of_a_load_is_that_of_its_own_tasks_and_batches_that_have_ended() -> None:
    records = [
        {"request_id": "c1-text-1", "state": "succeeded", "prompt_tokens": "3", "completion_tokens": "12"},
        {"request_id": "c1-text-2", "state": "cancelled", "completion_tokens": "5"},
        {"request_id": "c1-text-3", "state": "expired"},
        {"request_id": "c1-text-4", "state": "running", "completion_tokens": "9"},
        {"request_id": "c11-text-1", "state": "succeeded", "completion_tokens": "12"},
        {"batch": "b", "state": "succeeded", "images": "1"},
        {"batch": "another", "state": "succeeded", "images": "1"},
    ]
    used = Usage(requests=4, failed=1, cancelled=1, images=1, prompt_tokens=3, completion_tokens=17)
    assert add_up(records, "c1", ["b"]) == used
    assert used.since(Usage(requests=1, images=1)) == replace(used, requests=3, images=0)
