"""What Celery's programs do to tasks behind graycat's back: each row of docs/operating.md, on real workers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest
import requests
from celery.bin.celery import celery as celery_program
from celery.worker.control import Panel
from pytest_celery import CeleryTestWorker, CeleryWorkerCluster

from graycat.celeryapp import create_celery
from graycat.queue.records import MAX_REFUSALS
from graycat.worker.celery_commands import REFUSED
from tests.support.celery_nodes import GraycatSetup, ProcessContainer
from tests.support.processes import eventually
from tests.support.stack import ROOT, START_S
from tests.support.supervised import WORKER, Supervised

#: Seconds that a task may take which a sweeper has to find first: some leases of 1.5 s, on a busy machine.
SWEPT_S = 30.0
#: Seconds that a worker gets to reply.
REPLY_S = 10.0
#: A task of many seconds: the double needs 0.02 s a token.
LONG = 1000

Test = TypeVar("Test", bound=Callable[..., None])
#: The rows of the table that tests of this module show.
SHOWN: list[str] = []


def row(*names: str) -> Callable[[Test], Test]:
    """Note which rows of the table a test shows."""

    def note(test: Test) -> Test:
        SHOWN.extend(names)
        return test

    return note


#: Rows that other modules show, and the test that does.
ELSEWHERE = {
    "`control revoke ID`, the task has ended or there is none": (
        "unit/worker/test_revocation.py::test_a_task_that_has_ended_"
    ),
    "`control revoke ID`, an image of a batch": (
        "unit/batches/runner/test_runner.py::test_an_image_whose_task_was_revoked_"
    ),
    '`control revoke "ID EVENT"`, the delivery of a webhook': (
        "unit/webhooks/test_deliveries.py::test_a_delivery_that_is_given_up_"
    ),
    "`control revoke_by_stamped_headers`": "unit/worker/test_celery_commands.py::test_stamps_revoke_nothing",
    "`control cancel_consumer QUEUE`": "integration/test_worker_states.py::test_every_probe_tells_the_truth",
    "`control add_consumer QUEUE`": "unit/worker/test_celery_commands.py::test_a_worker_joins_only_queues_",
    "`control shutdown`": "unit/worker/test_remote_control.py::test_celery_s_own_shutdown_is_a_drain",
    "`control drain_worker`, `pause_worker`, `resume_worker`": (
        "integration/test_celery_commands.py::test_the_control_api_pauses_"
    ),
    "`inspect ping`": "unit/worker/test_remote_control.py::test_a_ping_tells_whether_",
    "`inspect active`, `reserved`, `scheduled`, `query_task`": (
        "integration/test_celery_commands.py::test_what_runs_shows_its_id_and_no_prompt"
    ),
    "`report`, `inspect report`, `inspect conf`": "integration/test_celery_commands.py::test_a_report_shows_no_secret",
}


@pytest.fixture(scope="module")
def celery_worker_cluster(celery_stack: Supervised, celery_worker: CeleryTestWorker) -> CeleryWorkerCluster:
    """Return the text worker and the control worker, with a web server before them."""
    control = CeleryTestWorker(ProcessContainer(celery_stack, "control"), app=None)
    control.container.start()
    celery_stack.begin()
    celery_stack.wait_until_consuming()
    return CeleryWorkerCluster(celery_worker, control)


@pytest.fixture
def setup(celery_setup: GraycatSetup) -> GraycatSetup:
    """Return the setup, whose workers take tasks."""
    return celery_setup


def send(setup: GraycatSetup, command: str, *workers: str, **arguments: Any) -> dict[str, dict[str, Any]]:
    """Send a control command to some workers, by default to all; return their replies by name."""
    names = list(workers) or [worker.hostname() for worker in setup.worker_cluster]
    replies = setup.app.control.broadcast(
        command, arguments, destination=names, reply=True, timeout=REPLY_S, limit=len(names)
    )
    return {name: reply for found in replies for name, reply in found.items()}


@contextmanager
def paused(setup: GraycatSetup) -> Iterator[None]:
    """Have the text worker take nothing during the block."""
    send(setup, "pause_worker", WORKER)
    eventually(lambda: send(setup, "ping", WORKER)[WORKER]["ok"] != "pong", START_S)
    try:
        yield
    finally:
        send(setup, "resume_worker", WORKER)


def assert_all_finish(setup: GraycatSetup, *task_ids: str) -> None:
    """Check that tasks succeed at their first attempts."""
    for task_id in task_ids:
        record = setup.wait_for_state(task_id, "succeeded", SWEPT_S)
        assert record["attempt"] == "1"


def wait_for_request(stack: Supervised, request_id: str) -> str:
    """Return the id of the task that a request has made."""
    return eventually(lambda: stack.task_id(request_id), REPLY_S)


@row(
    "`control revoke ID`, the task is queued",
    "`control revoke ID`, the task is parked behind another of its owner's",
)
def test_a_revoked_task_is_answered_and_its_owner_s_others_run(setup: GraycatSetup, celery_stack: Supervised) -> None:
    client = celery_stack.client()
    with paused(setup), ThreadPoolExecutor() as pool:
        # What a caller waits for, and two more of the same API token, parked behind it.
        body = {"prompt": "Hi", "n_predict": 1}
        answer = pool.submit(client.post, "/completion", body, headers={"X-Request-Id": "revoked"})
        first = wait_for_request(celery_stack, "revoked")
        second, third = setup.submit(), setup.submit()
        assert "message" in setup.record(second)
        for replies in (send(setup, "revoke", task_id=first), send(setup, "revoke", task_id=[second])):
            assert all("cancelled" in reply["ok"] for reply in replies.values())
            assert len(replies) == 2
        refused = answer.result(REPLY_S)
    assert (refused.status_code, refused.json()["error"]["type"]) == (499, "task_cancelled")
    assert [setup.record(task_id)["state"] for task_id in (first, second)] == ["cancelled"] * 2
    assert_all_finish(setup, third)


@row("`control revoke ID`, the task runs", "`control terminate TERM ID`, or `revoke(ID, terminate=True)`")
def test_a_running_task_is_stopped_by_terminate_alone(setup: GraycatSetup, celery_stack: Supervised) -> None:
    task_id = setup.submit(tokens=LONG)
    setup.wait_for_state(task_id, "running")
    assert send(setup, "revoke", WORKER, task_id=task_id)[WORKER]["ok"] == f"{task_id}: running, goes on"
    assert setup.record(task_id)["state"] == "running"
    send(setup, "terminate", signal="KILL", task_id=[task_id])
    setup.wait_for_state(task_id, "cancelled", 2.0)
    eventually(lambda: requests.get(f"{celery_stack.llm_url}/stats", timeout=5).json()["running"] == 0, 2.0)
    assert celery_stack.alive("llm")
    assert_all_finish(setup, setup.submit())


@row("`purge`, `amqp queue.purge`")
def test_a_purge_loses_no_task(setup: GraycatSetup, celery_stack: Supervised) -> None:
    with paused(setup):
        task_ids = [setup.submit() for _ in range(3)]
        done = celery_stack.celery("purge -f")
        assert "Purged 1 message" in done.stdout, done.stderr
    assert_all_finish(setup, *task_ids)


def by_hand(setup: GraycatSetup, action: Callable[[Any, Any], None], kind: str = "") -> None:
    """Use a channel as ``celery amqp`` does, for the queue of text tasks."""
    app = create_celery(setup.app.settings, kind=kind)
    with app.connection() as connection:
        channel = connection.default_channel
        action(channel, app.amqp.queues["llm"](channel))


def delete_queue(channel: Any, queue: Any) -> None:
    queue.declare()
    queue.delete()
    channel.exchange_delete(queue.exchange.name)


def take_message(channel: Any, queue: Any) -> None:
    assert channel.basic_get(queue.name)


@row("`amqp queue.delete`, `amqp exchange.delete`", "`amqp basic.get`")
@pytest.mark.parametrize("action", [delete_queue, take_message])
def test_a_message_that_is_taken_away_comes_back(
    setup: GraycatSetup, celery_stack: Supervised, action: Callable[[Any, Any], None]
) -> None:
    with paused(setup):
        task_ids = [setup.submit() for _ in range(2)]
        by_hand(setup, action)
        assert celery_stack.redis().llen("llm") == 0
    assert_all_finish(setup, *task_ids)


@row("`amqp basic.ack`")
def test_a_message_that_is_acknowledged_by_hand_is_no_loss(setup: GraycatSetup, celery_stack: Supervised) -> None:
    task_id = setup.submit(tokens=50)
    setup.wait_for_state(task_id, "running")
    for tag in celery_stack.redis().hkeys("unacked:llm"):
        by_hand(setup, lambda channel, _, tag=tag: channel.basic_ack(tag), kind="llm")  # type: ignore[misc]
    assert celery_stack.redis().hlen("unacked:llm") == 0
    assert_all_finish(setup, task_id, setup.submit())


@row("`amqp basic.publish`")
def test_a_text_in_a_queue_is_no_trouble(setup: GraycatSetup, celery_stack: Supervised) -> None:
    done = celery_stack.celery("amqp basic.publish hello llm llm")
    assert "ERROR" in done.stderr
    celery_stack.redis().lpush("llm", "hello")
    assert_all_finish(setup, setup.submit())
    assert celery_stack.alive("llm")


@row(
    "`call NAME --args '[\"ID\"]' --queue QUEUE` of a queued task",
    "`call --expires`, `--eta`, `--countdown`, time limits of a message",
)
@pytest.mark.parametrize(
    "options",
    [{}, {"expires": datetime(2020, 1, 1, tzinfo=UTC)}, {"countdown": 3600}, {"time_limit": 1, "soft_time_limit": 1}],
    ids=["plain", "expired", "later", "limited"],
)
def test_a_task_that_is_called_by_its_id_runs_once(
    setup: GraycatSetup, celery_stack: Supervised, options: dict[str, Any]
) -> None:
    with paused(setup):
        # The second one is parked.
        task_ids = [setup.submit() for _ in range(3)]
        for task_id in task_ids[:2]:
            setup.app.send_task("llm.completion", args=[task_id], task_id=task_id, queue="llm", **options)
    assert_all_finish(setup, *task_ids)
    redis = celery_stack.redis()
    # No message waits in a worker's memory.
    eventually(lambda: redis.llen("llm") == redis.hlen("unacked:llm") == 0, REPLY_S)


@row(
    "`call NAME` with an unknown id, no id, or in a queue of other tasks (without `--queue`: the control worker's)",
    "`control revoke ID`, a tick of the schedules",
)
def test_messages_that_nobody_can_use_are_dropped(setup: GraycatSetup, celery_stack: Supervised) -> None:
    app = setup.app
    with paused(setup):
        task_id = setup.submit()
        # The default queue is that of the control worker, which has no engine.
        app.send_task("llm.completion", args=[task_id])
        app.send_task("sd.txt2img", args=[task_id], queue="llm")
        unusable: list[list[Any]] = [[], ["nowhere"], [task_id, task_id], [{}], [None]]
        for arguments in unusable:
            app.send_task("llm.completion", args=arguments, queue="llm")
        app.send_task("no.such.task", args=[task_id], queue="llm")
        app.send_task("control.deliver", args=["nothing"])
        tick = app.send_task("control.fire_schedules")
        send(setup, "revoke", task_id=tick.id)
    assert_all_finish(setup, task_id)
    redis = celery_stack.redis()
    eventually(lambda: redis.llen("control") == redis.hlen("unacked:control") == 0, REPLY_S)
    assert celery_stack.alive("llm")
    assert celery_stack.alive("control")


@row("`call` of a name that no worker knows")
def test_a_kind_that_no_worker_knows_fails_its_tasks_only(setup: GraycatSetup, celery_stack: Supervised) -> None:
    with paused(setup):
        first, newer, last = setup.submit(), setup.submit(), setup.submit()
        celery_stack.redis().hset(f"graycat:task:{newer}", "kind", "llm.of_next_year")
        for name in ["no.such.task"] * MAX_REFUSALS + ["llm.of_next_year"] * MAX_REFUSALS:
            setup.app.send_task(name, args=[newer], task_id=newer, queue="llm")
    assert setup.wait_for_state(newer, "failed")["status"] == "501"
    assert_all_finish(setup, first, last)


@row(
    *("`control rate_limit`", "`control time_limit`", "`control pool_grow`, `pool_shrink`, `autoscale`"),
    *("`control pool_restart`", "`control election`"),
)
def test_commands_without_use_are_refused_by_every_worker(setup: GraycatSetup) -> None:
    control = setup.app.control
    everybody = {"reply": True, "timeout": REPLY_S, "limit": 2}
    calls = {
        "rate_limit": lambda: control.rate_limit("llm.completion", "1/h", **everybody),
        "time_limit": lambda: control.time_limit("llm.completion", 0.01, 0.01, **everybody),
        "pool_grow": lambda: control.pool_grow(1, **everybody),
        "pool_shrink": lambda: control.pool_shrink(1, **everybody),
        "autoscale": lambda: control.autoscale(2, 1, **everybody),
        "pool_restart": lambda: control.pool_restart(**everybody),
        "election": lambda: [send(setup, "election", id="x", topic="task", action="llm.completion")],
    }
    assert set(calls) == set(REFUSED)
    for name, call in calls.items():
        replies = {worker: reply for found in call() for worker, reply in found.items()}
        assert list(replies.values()) == [{"error": REFUSED[name]}] * 2, name
    assert_all_finish(setup, *[setup.submit() for _ in range(3)])


@row("`control heartbeat`, `enable_events`, `disable_events`")
def test_without_events_tasks_run(setup: GraycatSetup) -> None:
    for command in ("disable_events", "heartbeat", "enable_events"):
        assert len(send(setup, command)) == 2
        assert_all_finish(setup, setup.submit())


@row(
    "`inspect revoked`, `hello`",
    "`inspect active_queues`, `registered`, `stats`, `clock`, `memsample`, `memdump`, `objgraph`",
)
def test_inspections_change_nothing(setup: GraycatSetup) -> None:
    with paused(setup):
        task_id = setup.submit(prompt="zebraprompt")
        # As an older worker tells at its start.
        assert task_id in send(setup, "hello", WORKER, from_node="llm@old", revoked=[task_id])[WORKER]["revoked"]
        for name, meta in Panel.meta.items():
            if meta.type == "inspect" and name != "hello":
                arguments = {"ids": [task_id]} if name == "query_task" else {}
                replies = send(setup, name, **arguments)
                assert len(replies) == 2, name
                assert "zebraprompt" not in str(replies)
    assert_all_finish(setup, task_id)


def read_celery_section() -> str:
    """Return what the document says of Celery's commands; what is behind it has headings of its own."""
    return (ROOT / "docs" / "operating.md").read_text().partition("\n## ")[0]


def test_each_command_of_celery_s_is_in_the_document() -> None:
    page = read_celery_section()
    told = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]*)`", page))))
    # Workers and web processes send it to each other.
    internal = {"stop_task"}
    assert (set(Panel.meta) | set(celery_program.commands)) - told <= internal


def test_each_row_of_the_document_has_its_test_and_no_test_is_without_its_row() -> None:
    lines = read_celery_section().splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("|")][2:]
    assert sorted(rows) == sorted([*SHOWN, *ELSEWHERE])
    for place in ELSEWHERE.values():
        name, _, test = place.partition("::")
        assert re.search(rf"^def {test}", (ROOT / "tests" / name).read_text(), re.MULTILINE), place
