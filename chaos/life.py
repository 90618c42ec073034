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

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chaos import life_stack
from chaos.life_audit import check, check_usage
from chaos.life_callers import PICKS, CallerRules
from chaos.life_model import QUEUED, RUNNING, ModelTask
from chaos.life_parts import LASTING, MAX_ATTEMPTS, QUEUES, Hands, Held, Parts
from graycat.errors import EngineError, EngineKilled
from graycat.queue.models import TERMINAL_STATES, Attempt, ReleaseReason, Verdict
from tests.support.helpers import Valkey

WORKERS = st.sampled_from((0, 1))
#: Steps of the end: far more than the work that can be left.
END_STEPS = 400


class TaskLife(CallerRules):
    """Two owners, two workers, and all that may happen. ``parts`` is set before it runs."""

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
        if held is not None and held.attempt is not None:
            self._publish(held, held.attempt)

    def _publish(self, held: Held, attempt: Attempt) -> None:
        task = self.tasks.get(held.task_id)
        held.chunks += 1
        verdict = self.parts.publish(attempt, held.chunks, f"{attempt.number}.{held.chunks}".encode())
        expected = Verdict.STALE
        if task is not None and self._owns(task, attempt):
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
        for held in self.workers[worker].held:
            if held.attempt is not None and not held.done:
                self._publish(held, held.attempt)

    @rule()
    def die_in_bulk_work(self) -> None:
        """Kill a worker that has bulk work, and have interactive tasks wait when its message is delivered again."""
        self.take(0, claims=True, bulk=True)
        if self.workers[0].held:
            self.kill(0, notice=True)
        for _ in range(2):
            self.submit(LASTING, "interactive", "first")
        for _ in range(3):
            self.take(1, claims=True, bulk=True)
            self.settle_messages(1)

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
        waits = held.done == "given back"
        self._settle(hands, held)
        if waits:
            # Bulk work waits for a task whose message is lost.
            self.sweep()
        self.is_as_the_model_says()

    def _drain(self) -> None:
        """Take what is left: messages of tasks that have ended."""
        hands = self.workers[0]
        while held := self.parts.take(hands):
            self._claim(hands, held)
            self._settle(hands, held)


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


def search_alone(examples: int, steps: int) -> Counter[str]:
    """Search with fresh randomness on a broker of its own."""
    with tempfile.TemporaryDirectory(prefix="graycat-life-") as folder:
        valkey = Valkey(Path(folder))
        valkey.start()
        try:
            return search(valkey, examples, steps, derandomize=False)
        finally:
            valkey.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Search with fresh randomness, and print what was done."""
    parser = argparse.ArgumentParser(prog="chaos life", description=__doc__)
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--stack", type=int, default=0, help="so many examples on a whole graycat instead")
    options = parser.parse_args(arguments)
    if options.stack:
        done = life_stack.search(options.stack)
    else:
        done = search_alone(options.examples, options.steps)
    for what, times in sorted(done.items()):
        sys.stdout.write(f"{what:28} {times:8}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
