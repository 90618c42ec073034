"""A real control worker tells real receivers, also after it was killed in the middle; no engine is needed for that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from graycat.broker.client import connect
from graycat.errors import BrokerUnavailable
from graycat.fleet.workers import WorkerRegistry, select_serving
from graycat.queue.records import TaskRecords
from graycat.webhooks.deliveries import MAX_PER_HOST, Deliveries
from tests.support.helpers import started
from tests.support.hooks import verified, webhook_for
from tests.support.processes import SLACK_S, eventually
from tests.support.servers import after, http_server, reply
from tests.support.stack import Stack

HOOK = "POST /hook"


class ControlStack(Stack):
    """A broker and a control worker, and nothing else."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, separately=True, env={"GRAYCAT_WEBHOOK_ALLOW": "127.0.0.1/32,::1/128"})
        self.commands = {name: line for name, line in self.commands.items() if name in ("broker", "control")}
        self.broker = connect(self.settings)

    def ready(self) -> bool:
        try:
            return bool(select_serving(WorkerRegistry(self.broker).workers(), "control"))
        except BrokerUnavailable:
            return False

    def end_task(self, hook: str) -> str:
        """End a task whose end is to be told; return its id."""
        records = TaskRecords(self.broker, self.settings)
        attempt = started(records, webhook=hook)
        records.succeed(attempt, 200, b'{"content":"zebra"}')
        return attempt.task_id

    def told(self, task_id: str) -> bool:
        """Return whether the end of a task has been told."""
        return [row["state"] for row in Deliveries(self.broker).summarize(task_id)] == ["delivered"]


@pytest.fixture
def control(tmp_path: Path) -> Iterator[ControlStack]:
    stack = ControlStack(tmp_path)
    try:
        stack.start()
        yield stack
    finally:
        stack.broker.close()
        stack.kill_all()


def test_an_end_is_told_and_a_worker_killed_in_the_middle_tells_it_again(control: ControlStack) -> None:
    with http_server({HOOK: reply(200, {})}) as seen:
        task_id = control.end_task(webhook_for(seen))
        eventually(lambda: control.told(task_id), SLACK_S)
        assert verified(seen)["data"]["id"] == task_id
    gate = threading.Event()
    with http_server({HOOK: after(gate, reply(200, {}))}) as seen:
        task_id = control.end_task(webhook_for(seen))
        assert seen.asked.wait(SLACK_S)
        control.kill("control")
        gate.set()
        control.restart_dead()
        # The message comes back within the lease, and is dropped: the delivery is held for some seconds more.
        eventually(lambda: control.told(task_id), SLACK_S)
        assert len({headers["webhook-id"] for headers in seen.headers}) == 1
        assert len(seen.requests) == 2
    assert "delivery tried" in control.output
    assert "zebra" not in control.output
    assert "Traceback" not in control.output


def test_a_receiver_that_never_answers_holds_nobody_up(control: ControlStack) -> None:
    gate = threading.Event()
    with http_server({HOOK: after(gate, reply(200, {}))}) as slow, http_server({HOOK: reply(200, {})}) as seen:
        # Under another name, though it is the same machine: what is counted is the host.
        hook = webhook_for(slow, url=slow.url.replace("127.0.0.1", "localhost") + "/hook")
        held = [control.end_task(hook) for _ in range(3 * MAX_PER_HOST)]
        eventually(lambda: slow.connections == MAX_PER_HOST, SLACK_S)
        task_id = control.end_task(webhook_for(seen))
        eventually(lambda: control.told(task_id), SLACK_S)
        assert slow.connections == MAX_PER_HOST
        gate.set()
        eventually(lambda: all(map(control.told, held)), SLACK_S)
