"""One broker and one worker, in pytest-celery's words: tasks go round, and outlive both."""

from __future__ import annotations

import pytest
from pytest_celery import CeleryTestWorker, RedisTestBroker

from tests.support.celery_nodes import GraycatSetup
from tests.support.processes import eventually

#: A task of two seconds: the double needs 0.02 s a token.
TOKENS = 100
#: Seconds until a restarted worker has its engine, and until a dead worker's lease is over.
BACK_S = 120.0


@pytest.fixture
def nodes(celery_setup: GraycatSetup) -> GraycatSetup:
    """Return the setup with both nodes running, whatever the test before has left."""
    for node in (celery_setup.broker, celery_setup.worker):
        node.container.start()
    return celery_setup


def test_a_task_goes_round(nodes: GraycatSetup) -> None:
    assert nodes.ready(ping=True, control=True, docker=True)
    assert nodes.worker.hostname() == "llm@box"
    assert len(nodes) == 2
    record = nodes.wait_for_state(nodes.submit(tokens=3), "succeeded")
    assert (record["kind"], record["attempt"], record["status"]) == ("llm.completion", "1", "200")


def test_a_killed_worker_s_task_is_delivered_again(nodes: GraycatSetup, celery_worker: CeleryTestWorker) -> None:
    task_id = nodes.submit(tokens=TOKENS)
    nodes.wait_for_state(task_id, "running")
    celery_worker.kill()
    assert celery_worker.container.status == "exited"
    assert nodes.record(task_id)["state"] == "running"
    celery_worker.restart()
    record = nodes.wait_for_state(task_id, "succeeded", BACK_S)
    assert (record["status"], record["attempt"]) == ("200", "2")


def test_a_queued_task_outlives_a_killed_broker(
    nodes: GraycatSetup, celery_worker: CeleryTestWorker, celery_broker: RedisTestBroker
) -> None:
    celery_worker.container.stop()
    task_id = nodes.submit()
    celery_broker.kill()
    assert celery_broker.container.status == "exited"
    celery_broker.restart()
    assert nodes.record(task_id)["state"] == "queued"
    celery_worker.restart()
    assert nodes.finish(task_id)


def test_a_running_worker_comes_back_to_a_broker_that_was_killed(
    nodes: GraycatSetup, celery_broker: RedisTestBroker, celery_worker: CeleryTestWorker
) -> None:
    celery_broker.kill()
    celery_broker.restart()
    assert nodes.finish(nodes.submit())
    eventually(lambda: nodes.app.control.ping(destination=[celery_worker.hostname()]), BACK_S)
    assert celery_worker.container.status == "running"
