from __future__ import annotations

import pytest

from graycat.broker import keys
from graycat.broker.client import connect
from graycat.errors import BrokerUnavailable, EngineError, StaleAttempt
from graycat.queue.errors import IdempotencyConflict
from graycat.queue.models import TERMINAL_STATES, Attempt, Verdict
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, accepted, changed, claimed, eventually, kinds, message_of, new_task, started

#: Every way in which a running attempt ends, by the state it leaves.
ENDS = {
    "succeeded": lambda records, attempt: records.succeed(attempt, 200, b'{"content":"Hello"}'),
    "failed": lambda records, attempt: records.fail(attempt, EngineError(400, b'{"error":"too long"}')),
    "cancelled": lambda records, attempt: records.finish_cancelled(attempt),
}


def after_its_lease(records: TaskRecords, attempt: Attempt) -> Attempt:
    """Claim a task again whose worker has gone silent."""

    def again() -> Attempt | None:
        reply = records.claim(attempt.task_id, "llm@there")
        assert isinstance(reply, Attempt) or reply == "leased", reply
        return reply if isinstance(reply, Attempt) else None

    taken = eventually(again)
    assert taken is not None
    return taken


@pytest.fixture
def hasty(broker: Valkey) -> TaskRecords:
    """Return records whose leases last only a moment."""
    return TaskRecords(broker.client, changed(broker.settings, lease_s=0.02))


def test_a_record_and_its_message_appear_together(records: TaskRecords, client: BrokerClient) -> None:
    task = new_task(queue="llm.quick", owner="game", request_id="r-7")
    assert records.create(task, b"a Celery message")
    record = records.get(task.id)
    assert (record["state"], record["attempt"], record["kind"], record["mode"]) == ("queued", "0", task.kind, task.mode)
    assert (record["owner"], record["queue"], record["request_id"]) == ("game", "llm.quick", "r-7")
    assert client.lrange("llm.quick", 0, -1) == [b"a Celery message"]
    assert client.zscore(keys.live_key("llm"), task.id) == float(record["submitted_ms"])


def test_an_id_that_is_taken_changes_nothing(records: TaskRecords, client: BrokerClient) -> None:
    task_id = accepted(records, body=b"first")
    before = client.hgetall(keys.record_key(task_id))
    assert not records.create(new_task(id=task_id, body=b"second", owner="somebody else"), b"second message")
    assert client.hgetall(keys.record_key(task_id)) == before
    assert client.lrange("llm", 0, -1) == [message_of(task_id)]


def test_a_task_is_not_made_while_a_rival_for_its_name_exists(records: TaskRecords, client: BrokerClient) -> None:
    taken = accepted(records)
    before = sorted(client.keys("*"))
    with pytest.raises(IdempotencyConflict):
        records.create(new_task(rivals=("0" * 32, taken)), b"second message")
    assert (sorted(client.keys("*")), client.llen("llm")) == (before, 1)
    assert records.create(new_task(rivals=("0" * 32,)), b"second message")


def test_without_a_broker_nothing_is_accepted(no_broker: Settings) -> None:
    with pytest.raises(BrokerUnavailable):
        TaskRecords(connect(no_broker), no_broker).create(new_task(), b"a message")


def test_a_new_message_goes_behind_those_that_wait(records: TaskRecords, client: BrokerClient) -> None:
    for message in (b"first", b"second"):
        records.create(new_task(owner=message.decode()), message)
    # kombu takes from the other end.
    assert [client.rpop("llm"), client.rpop("llm")] == [b"first", b"second"]


def test_the_body_is_never_in_what_get_returns(records: TaskRecords) -> None:
    record = records.get(accepted(records, body=b'{"prompt":"my secret diary"}'))
    assert "body" not in record
    assert "diary" not in str(record)


def test_an_unknown_task_has_no_record_and_no_events(records: TaskRecords) -> None:
    assert (records.get("nobody"), records.events("nobody")) == ({}, [])


def test_a_claim_brings_what_the_engine_needs(records: TaskRecords) -> None:
    body = b'{"prompt":"\x00 \xff bytes stay bytes"}'
    task_id = accepted(records, kind="llm.tokenize", mode="plain", body=body, request_id="r-9")
    attempt = claimed(records, task_id, "quick@here")
    started_id = records.events(task_id)[0].id
    assert attempt == Attempt(
        task_id,
        1,
        "llm.tokenize",
        "plain",
        body,
        600.0,
        "r-9",
        resumed=False,
        started_id=started_id,
        owner="tests",
        queue="llm",
    )
    record = records.get(task_id)
    assert (record["state"], record["attempt"], record["worker"]) == ("running", "1", "quick@here")
    assert [(event.kind, event.data) for event in records.events(task_id)] == [("started", b"1")]


NUMBERS = ("queue_deadline_ms", "exec_timeout_ms", "keep_record_ms")


@pytest.mark.parametrize("field", ["kind", "mode", "body", "queue", *NUMBERS])
def test_a_record_that_lacks_a_field_is_not_run(records: TaskRecords, client: BrokerClient, field: str) -> None:
    task_id = accepted(records)
    client.hdel(keys.record_key(task_id), field)
    assert records.claim(task_id, "worker") == "gone"
    assert not records.expire(task_id)


@pytest.mark.parametrize("field", [*NUMBERS, "attempt"])
def test_a_record_with_a_number_that_is_none_is_not_run(records: TaskRecords, client: BrokerClient, field: str) -> None:
    task_id = accepted(records)
    client.hset(keys.record_key(task_id), field, "soon")
    assert records.claim(task_id, "worker") == "gone"
    assert not records.expire(task_id)


def test_a_claim_finds_an_unknown_task_gone(records: TaskRecords) -> None:
    assert records.claim("nobody", "llm@here") == "gone"


@pytest.mark.parametrize("state", ENDS)
def test_a_claim_finds_an_ended_task_finished(records: TaskRecords, state: str) -> None:
    attempt = started(records)
    ENDS[state](records, attempt)
    assert records.claim(attempt.task_id, "llm@there") == "finished"
    assert records.get(attempt.task_id)["state"] == state


def test_a_redelivered_task_is_left_alone_while_its_lease_is_fresh(records: TaskRecords) -> None:
    attempt = started(records)
    assert records.claim(attempt.task_id, "llm@there") == "leased"
    assert records.get(attempt.task_id)["worker"] == "llm@here"
    assert kinds(records, attempt.task_id) == ["started"]


def test_a_task_whose_worker_went_silent_is_run_again(hasty: TaskRecords) -> None:
    first = started(hasty)
    second = after_its_lease(hasty, first)
    assert (second.number, second.body, second.resumed) == (2, first.body, False)
    assert hasty.get(first.task_id)["worker"] == "llm@there"


def test_a_renewed_lease_outlives_the_first(records: TaskRecords, hasty: TaskRecords) -> None:
    attempt = started(hasty)
    assert records.renew(attempt.task_id, 1) is Verdict.GO_ON
    lease_ms = int(records.get(attempt.task_id)["lease_ms"])
    assert lease_ms > int(records.get(attempt.task_id)["started_ms"]) + 5000
    assert records.claim(attempt.task_id, "llm@there") == "leased"


def test_a_second_attempt_knows_that_an_answer_had_begun(hasty: TaskRecords) -> None:
    first = started(hasty)
    hasty.publish(first, 1, [b"data: Hel\n\n"])
    assert after_its_lease(hasty, first).resumed


def test_a_third_attempt_after_two_without_an_answer_is_no_resumption(hasty: TaskRecords) -> None:
    third = after_its_lease(hasty, after_its_lease(hasty, started(hasty)))
    assert (third.number, third.resumed) == (3, False)


def test_a_task_past_its_queue_deadline_expires_when_it_is_claimed(broker: Valkey) -> None:
    records = TaskRecords(broker.client, changed(broker.settings, queue_ttl_s=0.001))
    task_id = accepted(records)
    eventually(lambda: broker.client.time() > stamp(records, task_id, "queue_deadline_ms"))
    assert records.claim(task_id, "llm@here") == "expired"
    assert records.get(task_id)["state"] == "expired"
    (event,) = records.events(task_id)
    assert (event.kind, event.answer()[0]) == ("error", 503)
    assert b"task_expired" in event.answer()[1]


def stamp(records: TaskRecords, task_id: str, field: str) -> tuple[int, int]:
    """Return a time in a record as the broker's TIME tells it."""
    milliseconds = int(records.get(task_id)[field]) + 1
    return milliseconds // 1000, milliseconds % 1000 * 1000


def test_a_task_that_was_started_once_never_expires(broker: Valkey) -> None:
    records = TaskRecords(broker.client, changed(broker.settings, queue_ttl_s=0.05))
    attempt = started(records)
    records.release(attempt)
    eventually(lambda: broker.client.time() > stamp(records, attempt.task_id, "queue_deadline_ms"))
    assert not records.expire(attempt.task_id)
    assert claimed(records, attempt.task_id).number == 2


def test_a_task_that_was_tried_as_often_as_allowed_is_lost(broker: Valkey) -> None:
    records = TaskRecords(broker.client, changed(broker.settings, max_attempts=2))
    task_id = accepted(records)
    for _ in range(2):
        records.release(claimed(records, task_id))
    assert records.claim(task_id, "llm@here") == "lost"
    assert (records.get(task_id)["state"], records.get(task_id)["status"]) == ("failed", "502")
    assert b"task_lost" in records.events(task_id)[-1].answer()[1]


def test_a_released_task_can_be_claimed_at_once(records: TaskRecords) -> None:
    first = started(records)
    assert records.release(first)
    assert records.get(first.task_id)["state"] == "queued"
    assert claimed(records, first.task_id, "llm@there").number == 2


def test_a_stale_attempt_can_neither_publish_finish_renew_nor_release(records: TaskRecords, hasty: TaskRecords) -> None:
    stale = started(hasty)
    after_its_lease(records, stale)
    before, events = records.get(stale.task_id), records.events(stale.task_id)
    with pytest.raises(StaleAttempt):
        records.publish(stale, 1, [b"data: from the dead\n\n"])
    assert records.renew(stale.task_id, stale.number) is Verdict.STALE
    assert records.report_progress(stale, b"{}") is Verdict.STALE
    assert not any(end(records, stale) for end in ENDS.values())
    assert not records.release(stale)
    assert records.get(stale.task_id) == before
    assert records.events(stale.task_id) == events


@pytest.mark.parametrize("state", ENDS)
def test_a_terminal_state_is_written_once(records: TaskRecords, state: str) -> None:
    attempt = started(records)
    assert ENDS[state](records, attempt)
    before, events = records.get(attempt.task_id), records.events(attempt.task_id)
    assert not any(end(records, attempt) for end in ENDS.values())
    assert not records.release(attempt)
    assert not records.expire(attempt.task_id)
    assert records.cancel(attempt.task_id) == (state, "llm@here")
    with pytest.raises(StaleAttempt):
        records.publish(attempt, 1, [b"late"])
    assert records.get(attempt.task_id) == before
    assert records.events(attempt.task_id) == events


@pytest.mark.parametrize(
    ("state", "status", "kind", "answer"),
    [
        ("succeeded", "200", "result", (200, b'{"content":"Hello"}')),
        ("failed", "400", "error", (400, b'{"error":"too long"}')),
        ("cancelled", "499", "cancelled", None),
    ],
)
def test_the_last_event_is_the_answer(
    records: TaskRecords, client: BrokerClient, state: str, status: str, kind: str, answer: tuple[int, bytes] | None
) -> None:
    attempt = started(records)
    ENDS[state](records, attempt)
    record, event = records.get(attempt.task_id), records.events(attempt.task_id)[-1]
    assert (record["state"], record["status"], record["size"]) == (state, status, str(len(event.data)))
    assert int(record["finished_ms"]) >= int(record["started_ms"])
    assert (event.kind, event.terminal) == (kind, True)
    assert (event.answer() if answer else None) == answer
    assert "lease_ms" not in record
    assert client.zscore(keys.live_key("llm"), attempt.task_id) is None
    assert state in TERMINAL_STATES


def test_a_queued_task_is_cancelled_at_once(records: TaskRecords) -> None:
    task_id = accepted(records)
    assert records.cancel(task_id) == ("cancelled", "")
    assert (records.get(task_id)["state"], kinds(records, task_id)) == ("cancelled", ["cancelled"])
    assert records.claim(task_id, "llm@here") == "finished"


def test_a_running_task_is_asked_to_stop_and_ends_when_its_worker_says_so(records: TaskRecords) -> None:
    attempt = started(records)
    assert records.cancel(attempt.task_id) == ("running", "llm@here")
    assert records.get(attempt.task_id)["state"] == "running"
    assert records.publish(attempt, 1, [b"one more"]) is True
    assert records.renew(attempt.task_id, attempt.number) is Verdict.CANCEL
    assert records.finish_cancelled(attempt)
    assert kinds(records, attempt.task_id) == ["started", "chunk", "cancelled"]


def test_a_task_that_was_to_stop_is_not_run_again(records: TaskRecords) -> None:
    attempt = started(records)
    records.cancel(attempt.task_id)
    records.release(attempt)
    assert records.claim(attempt.task_id, "llm@there") == "cancelled"
    assert (records.get(attempt.task_id)["state"], records.get(attempt.task_id)["attempt"]) == ("cancelled", "1")


def test_cancelling_an_unknown_task_says_so(records: TaskRecords) -> None:
    assert records.cancel("nobody") == ("", "")


def test_a_task_does_not_expire_before_its_deadline(records: TaskRecords) -> None:
    task_id = accepted(records)
    assert not records.expire(task_id)
    assert records.get(task_id)["state"] == "queued"


def test_events_can_be_read_from_behind_any_of_them(records: TaskRecords) -> None:
    attempt = started(records)
    records.publish(attempt, 1, [b"a", b"b", b"c"])
    everything = records.events(attempt.task_id)
    assert [event.data for event in everything] == [b"1", b"a", b"b", b"c"]
    assert records.events(attempt.task_id, after=everything[1].id) == everything[2:]
    assert records.events(attempt.task_id, after=everything[-1].id) == []
