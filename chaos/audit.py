"""The audit: what graycat has on record compared with what its callers know. Every rule can fail, and says of what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass

from chaos import facts as facts_
from chaos.facts import Facts, Resources, Task
from chaos.ledger import Accepted, Call, Caller, Ledger, Outcome
from chaos.system import System, wait_for
from graycat.queue.models import TERMINAL_STATES

#: Seconds in which all accepted work must have ended when nobody sends any more.
END_S = 45.0
#: Milliseconds behind its deadline in which a task must have ended: the sweeper looks every few seconds.
LATE_MS = 10_000
#: What a process may hold more than at the base. Pools keep as many connections as were once in use together, and that
#: differs from load to load. What is not given back adds up: one base serves for all faults of a system.
MORE_THREADS, MORE_DESCRIPTORS, MORE_MEMORY_MB, MORE_CONNECTIONS = 8, 32, 60.0, 32


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be. ``kind``: one of a few words, by which a fault may permit it."""

    kind: str
    subject: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject} {self.detail}".strip()


def check(facts: Facts) -> list[Violation]:
    """Return all that is wrong with the facts."""
    found: list[Violation] = []
    for rule in RULES:
        found += rule(facts)
    return found


def _check_calls(facts: Facts) -> Iterator[Violation]:
    """What callers got: nobody hangs, nobody got half of something or something else."""
    kinds = {
        Outcome.OPEN: "hung",
        Outcome.WRONG: "wrong answer",
        Outcome.BROKEN: "broken",
        Outcome.ERROR: "error",
        Outcome.REFUSED: "refused",
    }
    for call in facts.calls:
        if call.outcome in kinds:
            yield Violation(f"{kinds[call.outcome]} {_short(call)}", call.name, call.detail)
    for name in facts.hanging:
        yield Violation("hung caller", name)
    for trouble in facts.troubles:
        yield Violation("harness", trouble)


def _short(call: Call) -> str:
    names = {Caller.GAME: "stream", Caller.WEBUI: "image", Caller.OPERATOR: "command"}
    return names.get(call.caller, "request")


def _check_accepted(facts: Facts) -> Iterator[Violation]:
    """Submitted = succeeded + failed + cancelled + expired: every accepted task is there once, and has ended."""
    by_name = {task.name: task for task in facts.tasks}
    for accepted in facts.accepted:
        task = by_name.get(accepted.name)
        if task is None:
            yield Violation("lost", accepted.name, "it was accepted, and there is no record of it")
        else:
            yield from _check_end(accepted, task)
    for name, count in Counter(task.name for task in facts.tasks).items():
        if count > 1:
            yield Violation("twice", name, f"{count} tasks were made of one request")
    yield from _check_whole_calls(facts)


def _check_end(accepted: Accepted, task: Task) -> Iterator[Violation]:
    if task.state not in TERMINAL_STATES:
        yield Violation("not ended", accepted.name, f"it is still {task.state}")
    elif task.state not in accepted.may_end:
        yield Violation(f"task {task.state}", accepted.name, f"attempt {task.attempt}")
    elif task.state == "succeeded" and task.images != accepted.images:
        yield Violation("wrong images", accepted.name, f"{task.images} in place of {accepted.images}")


def _check_whole_calls(facts: Facts) -> Iterator[Violation]:
    """A caller that has its whole answer has one task, which has succeeded; a task that nobody waits for has ended."""
    states = {task.name: task.state for task in facts.tasks}
    for call in facts.calls:
        answered = call.caller in (Caller.GAME, Caller.WEBUI) and call.outcome is Outcome.WHOLE
        if answered and states.get(call.name) != "succeeded":
            yield Violation("lost", call.name, f"its caller has the answer, and its record is {states.get(call.name)}")
    known = {accepted.name for accepted in facts.accepted}
    for task in facts.tasks:
        if task.name not in known and task.state not in TERMINAL_STATES:
            yield Violation("not ended", task.name, f"it is still {task.state}")


def _check_attempts(facts: Facts) -> Iterator[Violation]:
    """Engine calls = recorded attempts: an attempt asks its engine once at most; who succeeds has asked."""
    for task in facts.tasks:
        if not task.kind.endswith(("completion", "chat", "txt2img")):
            continue
        if task.calls > task.attempt:
            yield Violation("twice", task.name, f"{task.calls} calls of the engine in {task.attempt} attempts")
        if task.state == "succeeded" and not task.calls:
            yield Violation("wrong answer task", task.name, "it has succeeded, and no engine was asked")
        if task.state in TERMINAL_STATES and (task.ends != 1 or not task.ends_last):
            yield Violation("ends", task.name, f"{task.ends} terminal events, the last one last: {task.ends_last}")
    names = {task.name for task in facts.tasks}
    names |= {prompt for batch in facts.accepted_batches for prompt in batch.prompts}
    for prompt, count in facts.asked.items():
        if prompt not in names:
            yield Violation("lost", prompt, f"an engine was asked {count} times, and there is no record")


def _check_deadlines(facts: Facts) -> Iterator[Violation]:
    """Nothing begins behind its deadline, or goes on behind it."""
    for task in facts.tasks:
        waited = task.started_ms - task.submitted_ms
        if task.started_ms and waited > task.queue_ttl_ms + LATE_MS:
            yield Violation("late", task.name, f"it was started after {waited} ms, and might wait {task.queue_ttl_ms}")
        ran = task.finished_ms - task.begun_ms
        if task.begun_ms and ran > task.exec_timeout_ms + LATE_MS:
            yield Violation("late", task.name, f"it ended {ran} ms after its last attempt began")
        waited = task.finished_ms - task.submitted_ms
        if task.finished_ms and not task.started_ms and waited > task.queue_ttl_ms + LATE_MS:
            yield Violation("late", task.name, f"it ended in its queue after {waited} ms")


def _check_batches(facts: Facts) -> Iterator[Violation]:
    """A batch has each of its images once, and each file is what its manifest says."""
    for accepted, batch in zip(facts.accepted_batches, facts.batches, strict=True):
        if batch.state not in accepted.may_end:
            yield Violation("batch", batch.batch_id, f"it is {batch.state}")
            continue
        if batch.state != "succeeded":
            continue
        prompts = Counter(prompt for prompt, _ in batch.lines)
        if prompts != Counter(accepted.prompts):
            yield Violation("batch", batch.batch_id, f"its manifest has {dict(prompts)}")
        if batch.files != len(accepted.prompts) or batch.damaged:
            yield Violation("batch", batch.batch_id, f"{batch.files} files, damaged: {batch.damaged}")
        for prompt, attempts in batch.lines:
            if not 1 <= facts.asked[prompt] <= attempts:
                yield Violation("twice", prompt, f"{facts.asked[prompt]} renders in {attempts} attempts")


def _check_left(facts: Facts) -> Iterator[Violation]:
    """Queues, unacknowledged messages, live sets, turns and marks are empty when all work has ended."""
    for name, count in facts.left.items():
        if count:
            yield Violation("left", name, str(count))
    for name, value in facts.gauges.items():
        # What the broker keeps until its time is no work under way.
        if value and not name.startswith("graycat_stored_bytes"):
            yield Violation("metrics", name, f"{value:g}, and nothing is under way")


def _check_resources(facts: Facts) -> Iterator[Violation]:
    """Processes run, and hold no more than before."""
    for part in facts.missing_parts:
        yield Violation("down", part)
    for part, now in facts.resources.items():
        before = facts.base.get(part)
        if before is not None:
            yield from _check_process(part, before, now)
    if facts.connections > facts.base_connections + MORE_CONNECTIONS:
        yield Violation("grown", "connections of the broker", f"{facts.base_connections} -> {facts.connections}")


def _check_process(part: str, before: Resources, now: Resources) -> Iterator[Violation]:
    if now.threads > before.threads + MORE_THREADS:
        yield Violation("grown", part, f"threads {before.threads} -> {now.threads}")
    if now.descriptors > before.descriptors + MORE_DESCRIPTORS:
        yield Violation("grown", part, f"descriptors {before.descriptors} -> {now.descriptors}")
    if now.memory_mb > before.memory_mb + MORE_MEMORY_MB:
        yield Violation("grown", part, f"memory {before.memory_mb:.0f} -> {now.memory_mb:.0f} MB")


def _check_usage(facts: Facts) -> Iterator[Violation]:
    """The counted usage of the callers is what the records of their tasks say: tasks, tokens and images."""
    if facts.usage is None:
        return
    recorded = asdict(facts.recorded)
    for name, counted in asdict(facts.usage).items():
        if counted != recorded[name]:
            yield Violation("metrics", f"usage of {name}", f"{counted} counted, and the records say {recorded[name]}")


RULES = (
    _check_calls,
    _check_accepted,
    _check_attempts,
    _check_deadlines,
    _check_batches,
    _check_left,
    _check_resources,
    _check_usage,
)


def settle(system: System, ledger: Ledger, permits: Collection[str] = (), timeout_s: float = END_S) -> bool:
    """Wait until all accepted work has ended; return whether it has, in time. ``permits``: of the fault."""

    def ended() -> bool:
        if any(f"left {name}" not in permits for name in facts_.read_left(system)):
            return False
        batches = [facts_.read_batch(system, batch) for batch in ledger.batches()]
        return all(batch.state in TERMINAL_STATES for batch in batches)

    return wait_for(ended, timeout_s, 0.25)
