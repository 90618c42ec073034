from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from graycat.broker import keys
from graycat.broker.client import connect
from graycat.errors import BrokerUnavailable, EngineError
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from graycat.webhooks import deliveries as module
from graycat.webhooks.deliveries import (
    BEGIN_TIMEOUT_MS,
    HOLD_MS,
    MAX_PER_HOST,
    MAX_PER_OWNER,
    RETRY_DELAY_MS,
    Deliveries,
    DeliveryAttempt,
)
from graycat.webhooks.webhook import EVENTS, Webhook
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, accepted, changed, claimed, eventually, started
from tests.support.hooks import SECRET, look

URL = "https://hooks.example/path"


@pytest.fixture
def deliveries(client: BrokerClient) -> Deliveries:
    return Deliveries(client)


def webhook(*events: str, url: str = URL) -> str:
    return Webhook(url, events or ("succeeded",), SECRET).to_json()


def ended(records: TaskRecords, **changes: Any) -> str:
    """Return the id of a task that has succeeded."""
    attempt = started(records, **{"webhook": webhook(), **changes})
    assert records.succeed(attempt, 200, b'{"content":"zebra"}')
    look(records)
    return attempt.task_id


def listed(client: BrokerClient) -> set[str]:
    return {member.decode() for member in client.zrange(keys.DELIVERIES, 0, -1)}


def expired(records: TaskRecords, hook: str) -> str:
    task_id = accepted(records, webhook=hook, queue_ttl_s=0.001)
    eventually(lambda: records.expire(task_id))
    return task_id


def cancelled(records: TaskRecords, hook: str) -> str:
    task_id = accepted(records, webhook=hook)
    records.cancel(task_id)
    return task_id


def failed(records: TaskRecords, hook: str) -> str:
    attempt = started(records, webhook=hook)
    assert records.fail(attempt, EngineError(500, b"{}"))
    return attempt.task_id


WAYS: dict[str, Callable[[TaskRecords, str], str]] = {
    "started": lambda records, hook: started(records, webhook=hook).task_id,
    "succeeded": lambda records, hook: ended(records, webhook=hook),
    "failed": failed,
    "cancelled": cancelled,
    "expired": expired,
}


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_that_is_wanted_is_due_at_once(records, client, deliveries, event: str) -> None:
    task_id = WAYS[event](records, webhook(event))
    look(records)
    assert listed(client) == {f"{task_id} {event}"}
    assert list(deliveries.list_due(deliveries.now_ms(), 10)) == [f"{task_id} {event}"]
    state = {"started": "running"}.get(event, event)
    kept = client.hmget(keys.delivery_key(task_id, event), "task_state", "state", "owner", "kind")
    assert kept == [state.encode(), b"pending", b"tests", b"llm.completion"]
    assert 0 < client.ttl(keys.delivery_key(task_id, event)) <= keys.DELIVERY_TTL_S
    assert client.ttl(keys.delivery_key(task_id, event)) > keys.DELIVERY_TTL_S - 60


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_that_was_not_asked_for_is_not_delivered(records, client, event: str) -> None:
    others = tuple(name for name in EVENTS if name not in (event, "started" if event != "expired" else ""))
    WAYS[event](records, webhook(*others))
    look(records)
    assert listed(client) == set()


def test_a_task_without_a_webhook_has_no_deliveries_and_no_cost(records, client) -> None:
    attempt = started(records)
    assert not {"webhook", "metadata"} & set(records.get(attempt.task_id))
    records.succeed(attempt, 200, b"")
    assert not list(client.scan_iter(keys.PREFIX + "deliver*"))


def test_a_start_is_delivered_once(records, client, deliveries) -> None:
    attempt = started(records, webhook=webhook("started"))
    look(records)
    assert deliveries.begin(attempt.task_id, "started", deliveries.now_ms())
    records.release(attempt)
    assert claimed(records, attempt.task_id).number == 2
    look(records)
    assert len(listed(client)) == 1
    assert deliveries.summarize(attempt.task_id)[0]["attempts"] == 1


def test_a_delivery_outlives_the_record(records, client, deliveries) -> None:
    task_id = ended(records, metadata='{"order":7}')
    client.delete(keys.record_key(task_id))
    delivery = deliveries.begin(task_id, "succeeded", deliveries.now_ms())
    assert (delivery.fields["metadata"], delivery.fields["status"], delivery.owner) == ('{"order":7}', "200", "tests")
    assert (delivery.webhook.url, delivery.webhook.secret, delivery.attempt) == (URL, SECRET, 1)
    assert not {"body", "webhook"} & set(delivery.fields)
    assert not [secret for secret in (SECRET, "zebra", URL) if secret in repr(delivery)]


def enqueue(deliveries: Deliveries, now_ms: int) -> list[str]:
    """Enqueue what is due; return what that was."""
    due = deliveries.list_due(now_ms, 1000)
    return [member for member, places in due.items() if deliveries.enqueue(member, places, now_ms, "control", b"m")]


def test_a_delivery_is_enqueued_once_until_it_seems_lost(records, client, deliveries) -> None:
    task_id = ended(records)
    now_ms = deliveries.now_ms()
    due = deliveries.list_due(now_ms, 10)
    (places,) = due.values()
    # Two dispatchers that both saw it.
    tried = [deliveries.enqueue(f"{task_id} succeeded", places, now_ms, "control", b"message") for _ in range(2)]
    assert (tried, client.lrange("control", 0, -1)) == ([True, False], [b"message"])
    assert enqueue(deliveries, now_ms + BEGIN_TIMEOUT_MS - 1) == []
    assert enqueue(deliveries, now_ms + BEGIN_TIMEOUT_MS) == [f"{task_id} succeeded"]


def test_one_attempt_at_a_time(records, deliveries) -> None:
    task_id = ended(records)
    now_ms = deliveries.now_ms()
    assert deliveries.begin(task_id, "succeeded", now_ms).attempt == 1
    assert deliveries.begin(task_id, "succeeded", now_ms + HOLD_MS - 1) is None
    assert deliveries.begin(task_id, "succeeded", now_ms + HOLD_MS).attempt == 2


def test_an_attempt_that_died_leaves_its_delivery_to_be_due_again(records, deliveries) -> None:
    task_id = ended(records)
    now_ms = deliveries.now_ms()
    enqueue(deliveries, now_ms)
    dead = deliveries.begin(task_id, "succeeded", now_ms)
    assert enqueue(deliveries, now_ms + HOLD_MS) == [f"{task_id} succeeded"]
    alive = deliveries.begin(task_id, "succeeded", now_ms + HOLD_MS)
    # It was only slow: what it has to say is not asked any more.
    assert not deliveries.settle(dead, DeliveryAttempt(now_ms, 200, None, None))
    assert deliveries.settle(alive, DeliveryAttempt(now_ms, 500, None, now_ms + 60_000))
    assert (deliveries.summarize(task_id)[0]["state"], deliveries.summarize(task_id)[0]["attempts"]) == ("pending", 2)


def test_a_delivery_that_failed_is_due_again_when_it_was_said(records, deliveries) -> None:
    task_id = ended(records)
    now_ms = deliveries.now_ms()
    enqueue(deliveries, now_ms)
    delivery = deliveries.begin(task_id, "succeeded", now_ms)
    assert deliveries.settle(delivery, DeliveryAttempt(now_ms + 7, None, "timeout", now_ms + 5000))
    assert deliveries.begin(task_id, "succeeded", now_ms + 4999) is None
    assert enqueue(deliveries, now_ms + 4999) == []
    assert enqueue(deliveries, now_ms + 5000) == [f"{task_id} succeeded"]
    tries = [{"at_ms": now_ms + 7, "error": "timeout", "next_ms": now_ms + 5000}]
    assert deliveries.summarize(task_id) == [
        {
            "event": "succeeded",
            "state": "pending",
            "attempts": 1,
            "last_status": None,
            "last_error": "timeout",
            "next_ms": now_ms + 5000,
            "tries": tries,
        }
    ]


@pytest.mark.parametrize(
    ("status", "state"), [(200, "delivered"), (204, "delivered"), (299, "delivered"), (410, "failed"), (500, "failed")]
)
def test_a_delivery_that_is_over_can_still_be_read(records, client, deliveries, status: int, state: str) -> None:
    task_id = ended(records)
    now_ms = deliveries.now_ms()
    deliveries.settle(deliveries.begin(task_id, "succeeded", now_ms), DeliveryAttempt(now_ms, status, None, None))
    (summary,) = deliveries.summarize(task_id)
    assert (summary["state"], summary["last_status"], summary["next_ms"]) == (state, status, None)
    assert (listed(client), deliveries.begin(task_id, "succeeded", now_ms + 10**9)) == (set(), None)
    kept = client.hgetall(keys.delivery_key(task_id, "succeeded"))
    assert not [value for value in kept.values() if SECRET.encode() in value or URL.encode() in value]


def test_one_receiver_gets_only_so_many_at_once(records, client, deliveries) -> None:
    for _ in range(MAX_PER_HOST + 2):
        ended(records)
    other = ended(records, webhook=webhook(url="https://other.example:8443/"))
    now_ms = deliveries.now_ms()
    sent = enqueue(deliveries, now_ms)
    assert (len(sent), f"{other} succeeded" in sent) == (MAX_PER_HOST + 1, True)
    # The others wait a moment, and go when a place is free.
    assert enqueue(deliveries, now_ms + RETRY_DELAY_MS[1]) == []
    task_id, _, event = sent[0].partition(" ")
    deliveries.settle(deliveries.begin(task_id, event, now_ms), DeliveryAttempt(now_ms, 200, None, None))
    assert len(enqueue(deliveries, now_ms + 2 * RETRY_DELAY_MS[1])) == 1
    # Those whose worker died do not keep their places for ever.
    assert len(enqueue(deliveries, now_ms + BEGIN_TIMEOUT_MS)) == MAX_PER_HOST
    assert client.pttl(keys.receiver_key("hooks.example")) > 0


def test_one_owner_gets_only_so_many_at_once(records, deliveries) -> None:
    for number in range(MAX_PER_OWNER + 2):
        ended(records, webhook=webhook(url=f"https://n{number}.example/"))
    other = ended(records, owner="somebody else", webhook=webhook(url="https://other.example/"))
    sent = enqueue(deliveries, deliveries.now_ms())
    assert (len(sent), f"{other} succeeded" in sent) == (MAX_PER_OWNER + 1, True)


def test_what_has_run_out_is_forgotten(records, client, deliveries) -> None:
    task_id = ended(records)
    client.delete(keys.delivery_key(task_id, "succeeded"))
    now_ms = deliveries.now_ms()
    assert deliveries.begin(task_id, "succeeded", now_ms) is None
    assert enqueue(deliveries, now_ms) == []
    assert listed(client) == set()
    assert deliveries.summarize(task_id) == []


def test_an_outcome_does_not_bring_back_what_has_run_out(records, client, deliveries) -> None:
    task_id = ended(records)
    delivery = deliveries.begin(task_id, "succeeded", deliveries.now_ms())
    client.delete(keys.delivery_key(task_id, "succeeded"))
    assert not deliveries.settle(delivery, DeliveryAttempt(1, 200, None, None))
    assert not client.exists(keys.delivery_key(task_id, "succeeded"))


def test_an_attempt_ends_with_a_status_or_an_error() -> None:
    assert json.loads(DeliveryAttempt(1, 503, None, 2).to_json()) == {"at_ms": 1, "status": 503, "next_ms": 2}
    assert json.loads(DeliveryAttempt(1, None, "tls", None).to_json()) == {"at_ms": 1, "error": "tls", "next_ms": None}
    assert (DeliveryAttempt(1, 302, None, 2).state, DeliveryAttempt(1, None, "tls", None).state) == (
        module.PENDING,
        module.FAILED,
    )


def test_without_a_broker_nothing_is_known(no_broker: Settings) -> None:
    deliveries = Deliveries(connect(no_broker))
    for ask in (deliveries.now_ms, lambda: deliveries.list_due(1, 1), lambda: deliveries.begin("a", "failed", 1)):
        with pytest.raises(BrokerUnavailable):
            ask()


def test_a_delivery_is_as_lasting_as_its_record_was_short(broker: Valkey) -> None:
    records = TaskRecords(broker.client, changed(broker.settings, record_ttl_s=0.01))
    task_id = ended(records)
    eventually(lambda: not records.get(task_id))
    deliveries = Deliveries(broker.client)
    assert deliveries.begin(task_id, "succeeded", deliveries.now_ms())


def test_a_delivery_that_is_given_up_is_over_whatever_an_attempt_says(records, client, deliveries) -> None:
    task_id = ended(records)
    now_ms = deliveries.now_ms()
    (slots,) = deliveries.list_due(now_ms, 10).values()
    assert deliveries.enqueue(f"{task_id} succeeded", slots, now_ms, "control", b"{}")
    delivery = deliveries.begin(task_id, "succeeded", now_ms)
    assert deliveries.give_up(task_id, "succeeded", now_ms)
    assert not deliveries.settle(delivery, DeliveryAttempt(now_ms, 500, None, now_ms))
    (row,) = deliveries.summarize(task_id)
    assert (row["state"], row["last_error"], row["next_ms"]) == ("failed", "revoked", None)
    assert listed(client) == set()
    assert [client.zcard(slot) for slot in slots] == [0, 0]
    assert client.hget(keys.delivery_key(task_id, "succeeded"), "webhook") is None


def test_there_is_nothing_to_give_up_of_what_is_over_or_never_was(records, deliveries) -> None:
    task_id = ended(records)
    assert [deliveries.give_up(task_id, "succeeded", 1) for _ in range(2)] == [True, False]
    assert not deliveries.give_up(task_id, "failed", 1)
    assert not deliveries.give_up("x", "", 1)
