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
from chaos.life_testbed import LASTING, MAX_ATTEMPTS, QUEUES, Delivery, Testbed, WorkerProcess
from graycat.errors import EngineError, EngineKilled
from graycat.queue.models import TERMINAL_STATES, Attempt, ReleaseReason, Verdict
from tests.support.helpers import Valkey

WORKERS = st.sampled_from((0, 1))
#: Steps of the end: far more than the work that can be left.
END_STEPS = 400


class TaskLife(CallerRules):
    """Two owners, two workers, and all that may happen. ``testbed`` is set before it runs."""

    # Workers. Each of their steps may be the last one.

    def _delivery(self, worker: int, pick: int, *, attempt: bool) -> Delivery | None:
        """Return what a worker holds, with an attempt that goes on or without any."""
        found = [d for d in self.workers[worker].deliveries if not d.done and bool(d.attempt) is attempt]
        return found[pick % len(found)] if found else None

    @rule(worker=WORKERS, claims=st.sampled_from((True, True, True, False)), bulk=st.booleans())
    def take(self, worker: int, claims: bool, bulk: bool = False) -> None:
        """Take the next message, and mostly begin an attempt at once. ``bulk``: first of the queue of bulk work."""
        delivery = self.testbed.take(self.workers[worker], QUEUES[::-1] if bulk else QUEUES)
        if delivery is not None:
            self.done["take"] += 1
            if claims:
                self._claim(self.workers[worker], delivery)

    @rule(first=WORKERS, count=st.integers(1, 3))
    def work(self, first: int, count: int) -> None:
        """Take messages and begin attempts, the workers in turns."""
        for number in range(count):
            self.take((first + number) % 2, claims=True)

    def _is_any_held(self) -> bool:
        return any(process.deliveries for process in self.workers)

    def _is_any_running(self) -> bool:
        return any(d.attempt and not d.done for process in self.workers for d in process.deliveries)

    @precondition(_is_any_held)
    @rule(worker=WORKERS, pick=PICKS)
    def claim(self, worker: int, pick: int) -> None:
        """Begin an attempt, or learn why not."""
        delivery = self._delivery(worker, pick, attempt=False)
        if delivery is not None:
            self._claim(self.workers[worker], delivery)

    def _claim(self, process: WorkerProcess, delivery: Delivery) -> None:
        task = self.tasks.get(delivery.task_id)
        yields = task is not None and task.lane == "batch" and self.testbed.count_parked("llm") > 0
        expected = "gone" if task is None else task.expect_claim(MAX_ATTEMPTS, yields=yields)
        claimed = self.testbed.records.claim(delivery.task_id, process.name)
        verdict = "run" if isinstance(claimed, Attempt) else claimed
        assert verdict == expected, f"{delivery.task_id}: {verdict}, and should be {expected}"
        self.done[f"claim: {verdict}"] += 1
        if isinstance(claimed, Attempt):
            assert task is not None
            assert claimed.number == task.attempts
            delivery.attempt = claimed
        else:
            delivery.done = "given back" if verdict == "yield" else "dropped"

    @precondition(_is_any_running)
    @rule(worker=WORKERS, pick=PICKS)
    def publish(self, worker: int, pick: int) -> None:
        """Publish a chunk of an answer; an attempt that does not own its task is told so."""
        delivery = self._delivery(worker, pick, attempt=True)
        if delivery is not None and delivery.attempt is not None:
            self._publish(delivery, delivery.attempt)

    def _publish(self, delivery: Delivery, attempt: Attempt) -> None:
        task = self.tasks.get(delivery.task_id)
        delivery.chunks += 1
        verdict = self.testbed.publish(attempt, delivery.chunks, f"{attempt.number}.{delivery.chunks}".encode())
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
        for delivery in self.workers[worker].deliveries:
            if delivery.attempt is not None and not delivery.done:
                verdict = self.testbed.records.renew(delivery.task_id, delivery.attempt.number)
                task = self.tasks.get(delivery.task_id)
                assert (verdict is not Verdict.STALE) == (task is not None and self._owns(task, delivery.attempt))
                if task is not None and verdict is not Verdict.STALE:
                    task.lease_over = False
                    self.done["renew"] += 1

    @precondition(_is_any_running)
    @rule(worker=WORKERS, pick=PICKS, how=st.sampled_from(("succeeded", "succeeded", "failed", "cancelled")))
    def end(self, worker: int, pick: int, how: str) -> None:
        """Write the end of a task; only the attempt that owns it may, and only once."""
        delivery = self._delivery(worker, pick, attempt=True)
        if delivery is not None:
            self._end(delivery, how)

    def _end(self, delivery: Delivery, how: str) -> None:
        assert delivery.attempt is not None
        delivery.attempt.made.completion_tokens = delivery.chunks
        records, task = self.testbed.records, self.tasks.get(delivery.task_id)
        owns = task is not None and self._owns(task, delivery.attempt)
        if how == "succeeded":
            written = records.succeed(delivery.attempt, 200, b"{}")
        elif how == "failed":
            written = records.fail(delivery.attempt, EngineError(500, b"{}"))
        else:
            written = records.finish_cancelled(delivery.attempt)
        assert written is owns, f"{delivery.task_id}: an end was written: {written}, and should be: {owns}"
        delivery.done = "ended"
        if task is not None and owns:
            task.move(how)
            task.tokens += delivery.chunks
        self.done[f"end: {how if written else 'stale'}"] += 1

    @precondition(_is_any_running)
    @rule(worker=WORKERS, pick=PICKS, reason=st.sampled_from(list(ReleaseReason)))
    def release(self, worker: int, pick: int, reason: ReleaseReason) -> None:
        """Hand an attempt back; a task that has ended too many engines fails instead."""
        delivery = self._delivery(worker, pick, attempt=True)
        if delivery is None or delivery.attempt is None:
            return
        task = self.tasks.get(delivery.task_id)
        owns = task is not None and self._owns(task, delivery.attempt)
        delivery.attempt.made.completion_tokens = delivery.chunks
        try:
            released = self.testbed.records.release(delivery.attempt, reason)
        except EngineKilled:
            assert task is not None
            assert task.note_death(reason), "a task was blamed for too few deaths of engines"
            self._end(delivery, "failed")
            return
        assert released is owns
        delivery.done = "given back" if released else "ended"
        if task is not None and owns:
            assert not task.note_death(reason), "a task that ends engines is tried again"
            task.move(QUEUED)
            task.tokens += delivery.chunks
            task.charged += reason is ReleaseReason.CHARGED
        self.done[f"release: {reason if released else 'stale'}"] += 1

    @precondition(_is_any_held)
    @rule(worker=WORKERS)
    def settle_messages(self, worker: int) -> None:
        """Acknowledge or give back the messages of what is over."""
        process = self.workers[worker]
        for delivery in list(process.deliveries):
            if delivery.done:
                self._settle(process, delivery)

    def _settle(self, process: WorkerProcess, delivery: Delivery) -> None:
        process.deliveries.remove(delivery)
        tag = delivery.message.delivery_tag
        if delivery.done == "given back":
            process.channel.basic_reject(tag, requeue=True)
            return
        process.channel.basic_ack(tag)
        # A message that was delivered again has the same tag: whoever acknowledges it late takes the other's away.
        task = self.tasks.get(delivery.task_id)
        if task is not None and not task.ended:
            task.unheld = True

    # What goes wrong.

    @precondition(_is_any_held)
    @rule(worker=WORKERS, notice=st.booleans())
    def kill(self, worker: int, notice: bool) -> None:
        """Kill a worker; another one starts in its place. ``notice``: its leases end at once."""
        process = self.workers[worker]
        self.orphans += process.deliveries
        self.workers[worker] = self.testbed.new_worker(process.name)
        if process.deliveries:
            self.done["kill"] += 1
        if notice:
            self.notice_dead()

    @precondition(lambda self: self.orphans)
    @rule()
    def notice_dead(self) -> None:
        """Have the leases of the dead end, and their messages restored."""
        for delivery in self.orphans:
            self._end_lease(delivery)
        self.orphans = []
        self.testbed.restore(self.workers[0])

    @precondition(_is_any_held)
    @rule(worker=WORKERS, count=st.integers(0, 3))
    def stall(self, worker: int, count: int) -> None:
        """Stop a worker for longer than its lease: what it has is delivered again, and it goes on knowing nothing."""
        for delivery in self.workers[worker].deliveries:
            self._end_lease(delivery)
        self.testbed.restore(self.workers[1 - worker])
        self.done["stall"] += 1
        for _ in range(count):
            self.take(1 - worker, claims=True)
        for delivery in self.workers[worker].deliveries:
            if delivery.attempt is not None and not delivery.done:
                self._publish(delivery, delivery.attempt)

    @rule()
    def die_in_bulk_work(self) -> None:
        """Kill a worker that has bulk work, and have interactive tasks wait when its message is delivered again."""
        self.take(0, claims=True, bulk=True)
        if self.workers[0].deliveries:
            self.kill(0, notice=True)
        for _ in range(2):
            self.submit(LASTING, "interactive", "first")
        for _ in range(3):
            self.take(1, claims=True, bulk=True)
            self.settle_messages(1)

    def _end_lease(self, delivery: Delivery) -> None:
        self.testbed.let_lease_end(delivery)
        task = self.tasks.get(delivery.task_id)
        if task is not None and delivery.attempt is not None and self._owns(task, delivery.attempt):
            task.lease_over = True

    @rule(queue=st.sampled_from(QUEUES))
    def lose(self, queue: str) -> None:
        """Lose a message, as the broker does if a worker dies as it takes one."""
        task_id = self.testbed.lose_message(queue)
        if task_id:
            self.done["lose"] += 1
            if task_id in self.tasks:
                self.tasks[task_id].unheld = True

    @rule(pick=PICKS)
    def be_late(self, pick: int) -> None:
        """Have the time end for which a task may be queued."""
        task = self._pick(pick, QUEUED)
        if task is not None and task.attempts == 0:
            self.testbed.let_queue_ttl_end(task.id)
            task.overdue = True
            self.done["be late"] += 1

    @rule(pick=PICKS)
    def outlive(self, pick: int) -> None:
        """Have the time end for which the record of a task that has ended is kept: longer than any worker stalls."""
        task = self._pick(pick, *TERMINAL_STATES)
        holders = [delivery for process in self.workers for delivery in process.deliveries]
        if task is not None and all(delivery.task_id != task.id for delivery in [*holders, *self.orphans]):
            self.testbed.usage.step()
            self.testbed.let_record_end(task.id)
            del self.tasks[task.id]
            self.gone.append(task)
            status = self.testbed.web[task.owner].get(f"/tasks/{self._address(task)}").status_code
            assert status == 410, "who has had a task is told that its record is gone"
            self.done["outlive"] += 1

    # What the control worker does.

    @rule()
    def sweep(self) -> None:
        """Look for lost messages and for overdue tasks."""
        self.testbed.sweep()
        for task in self.tasks.values():
            if task.state == QUEUED and task.overdue and task.attempts == 0:
                self._end_queued(task, "expired")
            if task.state == QUEUED or task.lease_over:
                task.unheld = False
        self.done["sweep"] += 1

    @rule()
    def count_usage(self) -> None:
        """Count what ended tasks have used; later for what ends later."""
        self.testbed.usage.step()
        self.testbed.stored.settle()

    # What must always be true.

    @invariant()
    def is_as_the_model_says(self) -> None:
        """Compare all that the broker has with the model."""
        if not hasattr(self, "tasks"):
            return
        check(self.testbed, self.tasks, self.gone)

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
        check_usage(self.testbed, [*self.tasks.values(), *self.gone])

    def _work_once(self) -> None:
        """Take a message and run its task to the end; sweep if there is none."""
        process = self.workers[0]
        delivery = self.testbed.take(process)
        if delivery is None:
            self.sweep()
            return
        self._claim(process, delivery)
        if delivery.attempt is not None:
            self._end(delivery, "succeeded")
        waits = delivery.done == "given back"
        self._settle(process, delivery)
        if waits:
            # Bulk work waits for a task whose message is lost.
            self.sweep()
        self.is_as_the_model_says()

    def _drain(self) -> None:
        """Take what is left: messages of tasks that have ended."""
        process = self.workers[0]
        while delivery := self.testbed.take(process):
            self._claim(process, delivery)
            self._settle(process, delivery)


def search(valkey: Valkey, examples: int, steps: int, *, derandomize: bool) -> Counter[str]:
    """Run the machine; return how often each thing was done. Raises AssertionError with the shortest way to a fault."""
    TaskLife.testbed = Testbed(valkey)
    TaskLife.done = Counter()
    profile = settings(
        max_examples=examples, stateful_step_count=steps, derandomize=derandomize, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), phases=(Phase.generate,),
    )  # fmt: skip
    try:
        run_state_machine_as_test(TaskLife, settings=profile)
    finally:
        TaskLife.testbed.close()
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
