from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from graycat.broker.client import connect
from graycat.celeryapp import create_celery
from graycat.errors import BrokerUnavailable, EngineError, ShuttingDown, TaskCancelled, TaskTimeout
from graycat.queue.events import TaskEvent
from graycat.queue.kinds import COMPLETION, TOKENIZE, TXT2IMG
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from graycat.web.streaming import requests
from graycat.web.streaming.hub import EventHub
from graycat.web.streaming.requests import ClientDisconnected, PendingTask, Submission, TaskGateway
from tests.support.helpers import (
    AT_ONCE_S,
    PATIENCE_S,
    UNTRIED_S,
    Stopwatch,
    Valkey,
    changed,
    claimed,
    eventually,
    outcome_of,
)


def open_gateway(settings: Settings) -> TaskGateway:
    client = connect(settings)
    records = TaskRecords(client, settings)
    hub = EventHub(client, records)
    hub.start()
    return TaskGateway(settings, records, hub, create_celery(settings))


@pytest.fixture
def gateway_with(broker: Valkey) -> Callable[..., TaskGateway]:
    """Return how to open a gateway with some settings changed."""
    return lambda **changes: open_gateway(changed(broker.settings, **changes))


@pytest.fixture
def gateway(gateway_with) -> TaskGateway:
    opened: TaskGateway = gateway_with()
    return opened


def submit(gateway: TaskGateway) -> PendingTask:
    return gateway.submit(Submission(COMPLETION, "llm", "stream", b'{"prompt":"Hi"}', "tests", "r-1"))


def rest_of(pending: PendingTask) -> list[tuple[str, bytes]]:
    """Return the events up to the last one."""
    found: list[tuple[str, bytes]] = []
    while not found or found[-1][0] != "result":
        event = pending.next_event(PATIENCE_S)
        assert isinstance(event, TaskEvent), f"only {found} came"
        found.append((event.kind, event.data))
    return found


def test_events_that_this_version_does_not_know_are_passed_over(gateway, records, client) -> None:
    with submit(gateway) as pending:
        attempt = claimed(records, pending.task_id)
        channel = gateway.hub.channel_of(pending.task_id)
        client.publish(channel, f"{pending.task_id} 99999999999999-0 from_the_future 7 8")
        assert pending.next_event(AT_ONCE_S) is None
        records.publish(attempt, 1, [b"data: 1\n\n"])
        records.succeed(attempt, 200, b"")


def test_a_request_becomes_a_task(gateway, records, client) -> None:
    pending = gateway.submit(Submission(TOKENIZE, "llm.quick", "plain", b'{"content":"Hi"}', "game", "r-7"))
    record = records.get(pending.task_id)
    assert (record["state"], record["kind"], record["mode"], record["queue"]) == (
        "queued",
        "llm.tokenize",
        "plain",
        "llm.quick",
    )
    assert (record["owner"], record["request_id"]) == ("game", "r-7")
    assert record["channels"] == gateway.hub.channels["llm"]
    assert json.loads(client.lindex("llm.quick", 0))["headers"]["id"] == pending.task_id
    assert claimed(records, pending.task_id).body == b'{"content":"Hi"}'


def test_the_answer_s_events_come_as_they_are_made(gateway, records) -> None:
    pending = submit(gateway)
    attempt = claimed(records, pending.task_id)
    records.publish(attempt, 1, [b"a", b"b"])
    records.succeed(attempt, 200, b"{}")
    assert rest_of(pending) == [("chunk", b"a"), ("chunk", b"b"), ("result", b"200 {}")]


def test_without_news_there_is_nothing(gateway, records) -> None:
    pending = submit(gateway)
    claimed(records, pending.task_id)
    clock = Stopwatch()
    assert pending.next_event(0.05) is None
    assert 0.04 < clock.seconds < AT_ONCE_S


def test_an_engine_s_error_is_raised_with_its_reply(gateway, records) -> None:
    pending = submit(gateway)
    records.fail(claimed(records, pending.task_id), EngineError(400, b'{"error":"too long"}'))
    with pytest.raises(EngineError) as caught:
        pending.next_event(PATIENCE_S)
    assert (caught.value.status, caught.value.encoded()) == (400, b'{"error":"too long"}')


def test_a_cancelled_task_raises_task_cancelled(gateway, records) -> None:
    pending = submit(gateway)
    records.cancel(pending.task_id)
    with pytest.raises(TaskCancelled):
        pending.next_event(PATIENCE_S)


def test_without_a_broker_nothing_is_accepted_and_nothing_kept(no_broker: Settings) -> None:
    gateway = open_gateway(no_broker)
    clock = Stopwatch()
    with pytest.raises(BrokerUnavailable):
        submit(gateway)
    assert clock.seconds < UNTRIED_S
    assert not gateway.hub.subscriptions()


def test_a_task_that_no_worker_takes_expires_at_its_deadline(gateway_with, records) -> None:
    pending = submit(gateway_with(queue_ttl_s=0.1))
    clock = Stopwatch()
    with pytest.raises(EngineError) as caught:
        pending.next_event()
    assert 0.05 < clock.seconds < AT_ONCE_S
    assert (caught.value.status, b"task_expired" in caught.value.encoded()) == (503, True)
    assert records.get(pending.task_id)["state"] == "expired"


def test_a_task_that_was_taken_in_time_may_take_longer(gateway_with, records) -> None:
    pending = submit(gateway_with(queue_ttl_s=0.05))
    attempt = claimed(records, pending.task_id)
    assert pending.next_event(0.2) is None
    records.succeed(attempt, 200, b"{}")
    assert rest_of(pending) == [("result", b"200 {}")]


def test_a_task_whose_worker_is_silent_is_given_up(gateway_with, records, monkeypatch) -> None:
    monkeypatch.setattr(requests, "OVERDUE_S", 0.05)
    pending = submit(gateway_with(queue_ttl_s=0.05, exec_timeout_s=0.05))
    claimed(records, pending.task_id)
    clock = Stopwatch()
    with pytest.raises(TaskTimeout), pending:
        pending.next_event()
    assert 0.1 < clock.seconds < 0.15 + AT_ONCE_S
    assert records.get(pending.task_id)["cancel"] == "cancel"


def test_a_stream_outlives_a_broker_that_is_away_at_its_queue_deadline(mortal_broker: Valkey) -> None:
    settings = changed(mortal_broker.settings, queue_ttl_s=0.5)
    gateway, records = open_gateway(settings), TaskRecords(mortal_broker.client, settings)
    pending = submit(gateway)
    attempt = claimed(records, pending.task_id)
    records.publish(attempt, 1, [b"before"])
    event = pending.next_event(PATIENCE_S)
    assert event is not None
    assert event.data == b"before"
    mortal_broker.kill()
    try:
        assert pending.next_event(0.7) is None
    finally:
        mortal_broker.start()
    records.publish(attempt, 2, [b"after"])
    records.succeed(attempt, 200, b"{}")
    assert rest_of(pending) == [("chunk", b"after"), ("result", b"200 {}")]


def test_a_disconnect_ends_the_wait(gateway, records) -> None:
    pending = submit(gateway)
    result = outcome_of(pending.next_event)
    clock = Stopwatch()
    pending.client_disconnected()
    with pytest.raises(ClientDisconnected):
        result()
    assert clock.seconds < AT_ONCE_S


def test_closing_a_pending_task_cancels_a_queued_task(gateway, records, client) -> None:
    with submit(gateway) as pending:
        pass
    assert records.get(pending.task_id)["state"] == "cancelled"


def test_closing_a_pending_task_that_runs_cancels_it_and_tells_its_worker(gateway, records, next_command) -> None:
    pending = submit(gateway)
    claimed(records, pending.task_id, "llm@there")
    pending.close()
    command: Any = eventually(next_command)
    assert (command["method"], command["arguments"]) == ("stop_task", {"task_id": pending.task_id, "how": "cancel"})
    assert command["destination"] == ["llm@there"]
    assert records.get(pending.task_id)["cancel"] == "cancel"


def test_closing_a_pending_task_that_has_ended_cancels_nothing(gateway, records) -> None:
    with submit(gateway) as pending:
        records.succeed(claimed(records, pending.task_id), 200, b"{}")
        rest_of(pending)
    pending.close()
    record = records.get(pending.task_id)
    assert (record["state"], "cancel" in record) == ("succeeded", False)
    assert not gateway.hub.subscriptions()


def test_a_cancel_that_cannot_be_delivered_is_logged(no_broker: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    clock = Stopwatch()
    open_gateway(no_broker).abandon("a-task", "llm.completion")
    assert clock.seconds < UNTRIED_S
    assert [vars(r)["task_id"] for r in caplog.records if r.message == "cancel not delivered"] == ["a-task"]


def test_a_client_whose_wait_was_given_up_is_told_before_the_broker_has_answered(
    gateway: TaskGateway, records: TaskRecords, broker: Valkey
) -> None:
    pending = submit(gateway)
    claimed(records, pending.task_id, "llm@there")
    clock, pid = Stopwatch(), gateway.records._client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        gateway.hub.fail_all(ShuttingDown())
        with pytest.raises(EngineError), pending:
            pending.next_event(PATIENCE_S)
        assert clock.seconds < UNTRIED_S
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_task_whose_wait_was_given_up_is_cancelled(gateway: TaskGateway, records: TaskRecords) -> None:
    pending = submit(gateway)
    claimed(records, pending.task_id, "llm@there")
    gateway.hub.fail_all(ShuttingDown())
    with pytest.raises(EngineError), pending:
        pending.next_event(PATIENCE_S)
    eventually(lambda: records.get(pending.task_id).get("cancel") == "cancel")


def test_cancelling_an_unknown_task_does_nothing(gateway) -> None:
    gateway.cancel("nobody")
    assert gateway.records.get("nobody") == {}


@pytest.mark.parametrize(
    ("kind", "given", "deadlines"),
    [
        (COMPLETION, {}, (1.0, 2.0)),
        (TXT2IMG, {}, (3.0, 4.0)),
        (TXT2IMG, {"queue_ttl_s": 5.0}, (5.0, 4.0)),
        (COMPLETION, {"exec_timeout_s": 6.0}, (1.0, 6.0)),
    ],
)
def test_a_task_has_the_deadlines_of_its_kind_unless_it_names_its_own(
    gateway_with, records, kind, given, deadlines
) -> None:
    gateway = gateway_with(queue_ttl_s=1.0, exec_timeout_s=2.0, sd_queue_ttl_s=3.0, sd_exec_timeout_s=4.0)
    task_id, _ = gateway.enqueue(Submission(kind, kind.queue, "plain", b"{}", "tests", "r-1", **given))
    record = records.get(task_id)
    waits_ms = int(record["queue_deadline_ms"]) - int(record["submitted_ms"])
    assert (waits_ms / 1000, int(record["exec_timeout_ms"]) / 1000) == deadlines


def test_an_image_may_wait_longer_than_a_text(gateway_with) -> None:
    gateway = gateway_with(queue_ttl_s=0.05, sd_queue_ttl_s=300.0)
    pending = gateway.submit(Submission(TXT2IMG, "sd", "plain", b"{}", "tests", "r-1"))
    assert pending.next_event(0.2) is None
    pending.close()


def test_progress_is_no_part_of_an_answer(gateway, records) -> None:
    pending = submit(gateway)
    attempt = claimed(records, pending.task_id)
    records.report_progress(attempt, b'{"progress": 0.5}')
    records.succeed(attempt, 200, b"{}")
    assert rest_of(pending) == [("result", b"200 {}")]


def test_a_task_that_was_interrupted_has_a_part_of_an_answer(gateway, records) -> None:
    pending = submit(gateway)
    records.finish_cancelled(claimed(records, pending.task_id), b'{"images": []}')
    event = pending.next_event(PATIENCE_S)
    assert event is not None
    assert (event.kind, event.answer()) == ("cancelled", (200, b'{"images": []}'))


def test_skip_is_sent_to_the_worker_and_not_written_to_the_record(gateway, records, next_command) -> None:
    pending = submit(gateway)
    claimed(records, pending.task_id, "sd@there")
    gateway.skip(pending.task_id)
    command: Any = eventually(next_command)
    assert (command["method"], command["arguments"]["how"], command["destination"]) == (
        "stop_task",
        "skip",
        ["sd@there"],
    )
    assert "cancel" not in records.get(pending.task_id)


def test_skip_does_nothing_for_a_task_that_does_not_run(gateway, next_command) -> None:
    gateway.skip("nobody")
    gateway.skip(submit(gateway).task_id)
    assert next_command() is None
