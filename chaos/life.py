"""Hypothesis' state machine on the life of tasks: whatever is done in whatever order, the model is right.

``python -m chaos life`` looks for longer than the test in CI does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chaos.life_audit import check, check_usage
from chaos.life_model import QUEUED, RUNNING, ModelTask
from chaos.life_parts import LASTING, MAX_ATTEMPTS, QUEUES, Hands, Held, Parts
from graycat.errors import EngineError, EngineKilled
from graycat.queue.models import TERMINAL_STATES, UNSUCCESSFUL_STATES, Attempt, ReleaseReason, Verdict
from tests.support.helpers import Valkey

#: Names that callers choose, and requests that they send under them; and which of so many tasks a rule is about.
NAMES, CONTENTS, PICKS = st.sampled_from(("a", "b")), st.sampled_from(("one", "two")), st.integers(0, 9)
OWNERS, LANES = st.sampled_from((LASTING, "")), st.sampled_from(("interactive", "interactive", "batch"))
WORKERS = st.sampled_from((0, 1))
#: A token is not revoked before there are so many tasks.
BEFORE_REVOKED = 8
#: Steps of the end: far more than the work that can be left.
END_STEPS = 400


class TaskLife(RuleBasedStateMachine):
    """Two owners, two workers, and all that may happen. ``parts`` is set before it runs."""

    parts: ClassVar[Parts]
    #: How often each rule did something, over all examples.
    done: ClassVar[Counter[str]] = Counter()

    @initialize()
    def begin(self) -> None:
        """Begin with an empty broker."""
        self.parts.empty()
        self.tasks: dict[str, ModelTask] = {}
        #: Tasks whose records are gone.
        self.gone: list[ModelTask] = []
        self.named: dict[tuple[str, str], str] = {}
        self.workers = [self.parts.new_hands(f"llm@w{number}") for number in (0, 1)]
        #: What was in the hands of workers that died, until it is restored.
        self.orphans: list[Held] = []
        self.mortal_lives = True
        # So that there is something to do from the first step on.
        for owner in (LASTING, LASTING, ""):
            self.submit(owner, "batch", "first")
            self.submit(owner, "interactive", "first")

    # Callers.

    def _owner(self, drawn: str) -> str:
        return drawn if drawn or not self.mortal_lives else self.parts.mortal

    def _is_callable(self, task: ModelTask) -> bool:
        return task.owner == LASTING or self.mortal_lives

    def _pick(self, pick: int, *states: str) -> ModelTask | None:
        """Return one of the tasks in some states (none: in any) whose owner may call."""
        found = [t for t in self.tasks.values() if (not states or t.state in states) and self._is_callable(t)]
        return found[pick % len(found)] if found else None

    def _accept(self, task: ModelTask, what: str) -> None:
        self.tasks[task.id] = task
        if task.name:
            self.named[task.owner, task.name] = task.id
        self.done[what] += 1

    @rule(drawn=OWNERS, lane=LANES, content=CONTENTS)
    def submit(self, drawn: str, lane: str, content: str) -> None:
        """Submit a task under an id that graycat makes."""
        owner = self._owner(drawn) or LASTING
        answer = self.parts.web[owner].post("/tasks", json=body_of(content, lane))
        assert answer.status_code == 202, answer.text
        self._accept(ModelTask(answer.get_json()["id"], owner, lane, f"{content} {lane}"), "submit")

    @rule(drawn=OWNERS, name=NAMES, content=CONTENTS, lane=LANES, by_key=st.booleans())
    def put(self, drawn: str, name: str, content: str, lane: str, by_key: bool) -> None:
        """Submit under a chosen id or with an idempotency key: the same again is the same task, another is refused."""
        owner = self._owner(drawn) or LASTING
        web, body = self.parts.web[owner], body_of(content, lane)
        if by_key:
            answer = web.post("/tasks", json=body, headers={"Idempotency-Key": name})
            name = f"key {name}"
        else:
            answer = web.put(f"/tasks/{name}", json=body)
        known = self.tasks.get(self.named.get((owner, name), ""))
        if known is None:
            assert answer.status_code == 202, answer.text
            view = answer.get_json()
            task_id = view["id"] if by_key else self.parts.named_id(owner, name)
            self._accept(ModelTask(task_id, owner, lane, f"{content} {lane}", name), "put")
        elif known.content == f"{content} {lane}":
            assert (answer.status_code, answer.get_json()["state"]) == (200, known.state)
            self.done["put again"] += 1
        else:
            assert answer.status_code == 409, answer.text
            self.done["put refused"] += 1

    @rule(pick=PICKS, wait=st.booleans())
    def poll(self, pick: int, wait: bool) -> None:
        """Look at a task; a caller that looks at an overdue one ends it."""
        task = self._pick(pick)
        if task is None:
            return
        path = f"/tasks/{self._address(task)}" + ("?wait=0.01" if wait else "")
        view = self.parts.web[task.owner].get(path).get_json()
        if task.state == QUEUED and task.overdue and task.attempts == 0:
            self._end_queued(task, "expired")
        assert (view["state"], view.get("attempt", 0)) == (task.state, task.attempts)
        self.done[f"poll {task.state}"] += 1

    def _address(self, task: ModelTask) -> str:
        return task.name if task.name and not task.name.startswith("key ") else task.id

    @rule(pick=PICKS)
    def cancel(self, pick: int) -> None:
        """Cancel a task: one that is queued ends at once, one that runs is asked to stop, one that ended stays."""
        task = self._pick(pick)
        if task is None:
            return
        before = task.state
        view = self.parts.web[task.owner].delete(f"/tasks/{self._address(task)}").get_json()
        self._stop(task)
        assert (view["state"], view["confirmed"]) == (task.state, task.ended)
        self.done[f"cancel {before}"] += 1

    def _stop(self, task: ModelTask) -> None:
        """Change a task as a request to stop does; what is overdue is found so first, by who looks at it."""
        if task.state == QUEUED:
            overdue = task.overdue and task.attempts == 0 and self._is_callable(task)
            self._end_queued(task, "expired" if overdue else "cancelled")
        elif task.state == RUNNING:
            task.stopping = True

    def _end_queued(self, task: ModelTask, state: str) -> None:
        # It is counted as dead also if the broker has lost it.
        task.left_message = task.unheld or self.parts.has_message(task.id)
        task.move(state)

    @rule(pick=PICKS)
    def retry(self, pick: int) -> None:
        """Submit a task again that did not succeed; any other is refused."""
        task = self._pick(pick)
        if task is None or task.overdue:
            return
        answer = self.parts.web[task.owner].post(f"/tasks/{self._address(task)}/retry")
        if task.state in UNSUCCESSFUL_STATES:
            assert answer.status_code == 202, answer.text
            again = ModelTask(answer.get_json()["id"], task.owner, task.lane, f"retry {task.id}")
            self._accept(again, "retry")
        else:
            assert answer.status_code == 409, answer.text
            self.done["retry refused"] += 1

    @precondition(lambda self: self.mortal_lives and len(self.tasks) > BEFORE_REVOKED)
    @rule()
    def revoke(self) -> None:
        """Revoke the token of an owner: what it has left ends, and it may call no more."""
        self.parts.end_mortal()
        self.mortal_lives = False
        for task in self.tasks.values():
            if task.owner == self.parts.mortal:
                self._stop(task)
        assert self.parts.web[self.parts.mortal].get("/tasks").status_code == 401
        self.done["revoke"] += 1

    # Workers. Each of their steps may be the last one.

    def _held(self, worker: int, pick: int, *, attempt: bool) -> Held | None:
        """Return what a worker holds, with an attempt that goes on or without any."""
        found = [h for h in self.workers[worker].held if not h.done and bool(h.attempt) is attempt]
        return found[pick % len(found)] if found else None

    @rule(worker=WORKERS, claims=st.sampled_from((True, True, True, False)), bulk=st.booleans())
    def take(self, worker: int, claims: bool, bulk: bool = False) -> None:
        """Take the next message, and mostly begin an attempt at once. ``bulk``: first of the queue of bulk work."""
        held = self.parts.take(self.workers[worker], QUEUES[::-1] if bulk else QUEUES)
        if held is not None:
            self.done["take"] += 1
            if claims:
                self._claim(self.workers[worker], held)

    @rule(first=WORKERS, count=st.integers(1, 3))
    def work(self, first: int, count: int) -> None:
        """Take messages and begin attempts, the workers in turns."""
        for number in range(count):
            self.take((first + number) % 2, claims=True)

    def _is_any_held(self) -> bool:
        return any(hands.held for hands in self.workers)

    def _is_any_running(self) -> bool:
        return any(h.attempt and not h.done for hands in self.workers for h in hands.held)

    @precondition(_is_any_held)
    @rule(worker=WORKERS, pick=PICKS)
    def claim(self, worker: int, pick: int) -> None:
        """Begin an attempt, or learn why not."""
        held = self._held(worker, pick, attempt=False)
        if held is not None:
            self._claim(self.workers[worker], held)

    def _claim(self, hands: Hands, held: Held) -> None:
        task = self.tasks.get(held.task_id)
        yields = task is not None and task.lane == "batch" and self.parts.count_parked("llm") > 0
        expected = "gone" if task is None else task.expect_claim(MAX_ATTEMPTS, yields=yields)
        claimed = self.parts.records.claim(held.task_id, hands.name)
        verdict = "run" if isinstance(claimed, Attempt) else claimed
        assert verdict == expected, f"{held.task_id}: {verdict}, and should be {expected}"
        self.done[f"claim: {verdict}"] += 1
        if isinstance(claimed, Attempt):
            assert task is not None
            assert claimed.number == task.attempts
            held.attempt = claimed
        else:
            held.done = "given back" if verdict == "yield" else "dropped"

    @precondition(_is_any_running)
    @rule(worker=WORKERS, pick=PICKS)
    def publish(self, worker: int, pick: int) -> None:
        """Publish a chunk of an answer; an attempt that does not own its task is told so."""
        held = self._held(worker, pick, attempt=True)
        if held is None or held.attempt is None:
            return
        task = self.tasks.get(held.task_id)
        held.chunks += 1
        number = held.attempt.number
        verdict = self.parts.publish(held.attempt, held.chunks, f"{number}.{held.chunks}".encode())
        expected = Verdict.STALE
        if task is not None and self._owns(task, held.attempt):
            expected = Verdict.CANCEL if task.stopping else Verdict.GO_ON
            task.chunks += 1
        assert verdict is expected
        self.done[f"publish: {verdict}"] += 1

    @staticmethod
    def _owns(task: ModelTask, attempt: Attempt) -> bool:
        return task.state == RUNNING and task.attempts == attempt.number

    @precondition(_is_any_running)
    @rule(worker=WORKERS)
    def renew(self, worker: int) -> None:
        """Renew the leases of what a worker has."""
        for held in self.workers[worker].held:
            if held.attempt is not None and not held.done:
                verdict = self.parts.records.renew(held.task_id, held.attempt.number)
                task = self.tasks.get(held.task_id)
                assert (verdict is not Verdict.STALE) == (task is not None and self._owns(task, held.attempt))
                if task is not None and verdict is not Verdict.STALE:
                    task.lease_over = False
                    self.done["renew"] += 1

    @precondition(_is_any_running)
    @rule(worker=WORKERS, pick=PICKS, how=st.sampled_from(("succeeded", "succeeded", "failed", "cancelled")))
    def end(self, worker: int, pick: int, how: str) -> None:
        """Write the end of a task; only the attempt that owns it may, and only once."""
        held = self._held(worker, pick, attempt=True)
        if held is not None:
            self._end(held, how)

    def _end(self, held: Held, how: str) -> None:
        assert held.attempt is not None
        held.attempt.made.completion_tokens = held.chunks
        records, task = self.parts.records, self.tasks.get(held.task_id)
        owns = task is not None and self._owns(task, held.attempt)
        if how == "succeeded":
            written = records.succeed(held.attempt, 200, b"{}")
        elif how == "failed":
            written = records.fail(held.attempt, EngineError(500, b"{}"))
        else:
            written = records.finish_cancelled(held.attempt)
        assert written is owns, f"{held.task_id}: an end was written: {written}, and should be: {owns}"
        held.done = "ended"
        if task is not None and owns:
            task.move(how)
            task.tokens += held.chunks
        self.done[f"end: {how if written else 'stale'}"] += 1

    @precondition(_is_any_running)
    @rule(worker=WORKERS, pick=PICKS, reason=st.sampled_from(list(ReleaseReason)))
    def release(self, worker: int, pick: int, reason: ReleaseReason) -> None:
        """Hand an attempt back; a task that has ended too many engines fails instead."""
        held = self._held(worker, pick, attempt=True)
        if held is None or held.attempt is None:
            return
        task = self.tasks.get(held.task_id)
        owns = task is not None and self._owns(task, held.attempt)
        held.attempt.made.completion_tokens = held.chunks
        try:
            released = self.parts.records.release(held.attempt, reason)
        except EngineKilled:
            assert task is not None
            assert task.note_death(reason), "a task was blamed for too few deaths of engines"
            self._end(held, "failed")
            return
        assert released is owns
        held.done = "given back" if released else "ended"
        if task is not None and owns:
            assert not task.note_death(reason), "a task that ends engines is tried again"
            task.move(QUEUED)
            task.tokens += held.chunks
            task.charged += reason is ReleaseReason.CHARGED
        self.done[f"release: {reason if released else 'stale'}"] += 1

    @precondition(_is_any_held)
    @rule(worker=WORKERS)
    def settle_messages(self, worker: int) -> None:
        """Acknowledge or give back the messages of what is over."""
        hands = self.workers[worker]
        for held in list(hands.held):
            if held.done:
                self._settle(hands, held)

    def _settle(self, hands: Hands, held: Held) -> None:
        hands.held.remove(held)
        tag = held.message.delivery_tag
        if held.done == "given back":
            hands.channel.basic_reject(tag, requeue=True)
            return
        hands.channel.basic_ack(tag)
        # A message that was delivered again has the same tag: whoever acknowledges it late takes the other's away.
        task = self.tasks.get(held.task_id)
        if task is not None and not task.ended:
            task.unheld = True

    # What goes wrong.

    @precondition(_is_any_held)
    @rule(worker=WORKERS, notice=st.booleans())
    def kill(self, worker: int, notice: bool) -> None:
        """Kill a worker; another one starts in its place. ``notice``: its leases end at once."""
        hands = self.workers[worker]
        self.orphans += hands.held
        self.workers[worker] = self.parts.new_hands(hands.name)
        if hands.held:
            self.done["kill"] += 1
        if notice:
            self.notice_dead()

    @precondition(lambda self: self.orphans)
    @rule()
    def notice_dead(self) -> None:
        """Have the leases of the dead end, and their messages restored."""
        for held in self.orphans:
            self._end_lease(held)
        self.orphans = []
        self.parts.restore(self.workers[0])

    @precondition(_is_any_held)
    @rule(worker=WORKERS, count=st.integers(0, 3))
    def stall(self, worker: int, count: int) -> None:
        """Stop a worker for longer than its lease: what it has is delivered again, and it goes on knowing nothing."""
        for held in self.workers[worker].held:
            self._end_lease(held)
        self.parts.restore(self.workers[1 - worker])
        self.done["stall"] += 1
        for _ in range(count):
            self.take(1 - worker, claims=True)

    def _end_lease(self, held: Held) -> None:
        self.parts.let_lease_end(held)
        task = self.tasks.get(held.task_id)
        if task is not None and held.attempt is not None and self._owns(task, held.attempt):
            task.lease_over = True

    @rule(queue=st.sampled_from(QUEUES))
    def lose(self, queue: str) -> None:
        """Lose a message, as the broker does if a worker dies as it takes one."""
        task_id = self.parts.lose_message(queue)
        if task_id:
            self.done["lose"] += 1
            if task_id in self.tasks:
                self.tasks[task_id].unheld = True

    @rule(pick=PICKS)
    def be_late(self, pick: int) -> None:
        """Have the time end for which a task may be queued."""
        task = self._pick(pick, QUEUED)
        if task is not None and task.attempts == 0:
            self.parts.let_queue_ttl_end(task.id)
            task.overdue = True
            self.done["be late"] += 1

    @rule(pick=PICKS)
    def outlive(self, pick: int) -> None:
        """Have the time end for which the record of a task that has ended is kept: longer than any worker stalls."""
        task = self._pick(pick, *TERMINAL_STATES)
        holders = [held for hands in self.workers for held in hands.held]
        if task is not None and all(held.task_id != task.id for held in [*holders, *self.orphans]):
            self.parts.usage.step()
            self.parts.let_record_end(task.id)
            del self.tasks[task.id]
            self.gone.append(task)
            status = self.parts.web[task.owner].get(f"/tasks/{self._address(task)}").status_code
            assert status == 410, "who has had a task is told that its record is gone"
            self.done["outlive"] += 1

    # What the control worker does.

    @rule()
    def sweep(self) -> None:
        """Look for lost messages and for overdue tasks."""
        self.parts.sweep()
        for task in self.tasks.values():
            if task.state == QUEUED and task.overdue and task.attempts == 0:
                self._end_queued(task, "expired")
            if task.state == QUEUED or task.lease_over:
                task.unheld = False
        self.done["sweep"] += 1

    @rule()
    def count_usage(self) -> None:
        """Count what ended tasks have used; later for what ends later."""
        self.parts.usage.step()
        self.parts.stored.settle()

    # What must always be true.

    @invariant()
    def is_as_the_model_says(self) -> None:
        """Compare all that the broker has with the model."""
        if not hasattr(self, "tasks"):
            return
        check(self.parts, self.tasks, self.gone)

    def teardown(self) -> None:
        """Let everything end, as it does if workers run on: then nothing may be left, and all is counted once."""
        if not hasattr(self, "tasks"):
            return
        for worker in (0, 1):
            self.kill(worker, notice=True)
        for _ in range(END_STEPS):
            if all(task.ended for task in self.tasks.values()):
                break
            self._work_once()
        self._drain()
        self.is_as_the_model_says()
        left = [task for task in self.tasks.values() if not task.ended]
        assert not left, f"these never end: {left}"
        check_usage(self.parts, [*self.tasks.values(), *self.gone])

    def _work_once(self) -> None:
        """Take a message and run its task to the end; sweep if there is none."""
        hands = self.workers[0]
        held = self.parts.take(hands)
        if held is None:
            self.sweep()
            return
        self._claim(hands, held)
        if held.attempt is not None:
            self._end(held, "succeeded")
        self._settle(hands, held)
        self.is_as_the_model_says()

    def _drain(self) -> None:
        """Take what is left: messages of tasks that have ended."""
        hands = self.workers[0]
        while held := self.parts.take(hands):
            self._claim(hands, held)
            self._settle(hands, held)


def body_of(content: str, lane: str) -> dict[str, Any]:
    """Return the body of a request for a task."""
    return {"kind": "llm.completion", "input": {"prompt": content}, "priority": lane}


def search(valkey: Valkey, examples: int, steps: int, *, derandomize: bool) -> Counter[str]:
    """Run the machine; return how often each thing was done. Raises AssertionError with the shortest way to a fault."""
    TaskLife.parts = Parts(valkey)
    TaskLife.done = Counter()
    profile = settings(
        max_examples=examples, stateful_step_count=steps, derandomize=derandomize, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), phases=(Phase.generate,),
    )  # fmt: skip
    try:
        run_state_machine_as_test(TaskLife, settings=profile)
    finally:
        TaskLife.parts.close()
    return TaskLife.done


def main(arguments: Sequence[str] | None = None) -> int:
    """Search with fresh randomness, and print what was done."""
    parser = argparse.ArgumentParser(prog="chaos life", description=__doc__)
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="graycat-life-") as folder:
        valkey = Valkey(Path(folder))
        valkey.start()
        try:
            done = search(valkey, options.examples, options.steps, derandomize=False)
        finally:
            valkey.stop()
    for what, times in sorted(done.items()):
        sys.stdout.write(f"{what:28} {times:8}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
