"""What home keeps of a task's webhook, and the deliveries that it makes when it looks at the task's record."""

from __future__ import annotations

from typing import Any

import pytest

from graycat.broker import keys
from graycat.broker.keys import changed_key, hook_key, record_key, wrong_type_key
from graycat.metrics import worker
from graycat.queue.records import TaskRecords
from graycat.webhooks.deliveries import Deliveries
from graycat.webhooks.hooks import LOOK_INTERVAL_MS, MAX_NOTES, Hooks
from graycat.webhooks.webhook import Webhook
from tests.support.broker import BrokerClient
from tests.support.helpers import accepted, claimed, outcome_of, started
from tests.support.hooks import SECRET

HOOK = Webhook("https://hooks.example/path", ("started", "succeeded", "cancelled"), SECRET).to_json()
DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def hooks(client: BrokerClient) -> Hooks:
    return Hooks(client)


@pytest.fixture
def deliveries(client: BrokerClient) -> Deliveries:
    return Deliveries(client)


def ended(records: TaskRecords, **changes: Any) -> str:
    attempt = started(records, **{"webhook": HOOK, "metadata": '{"order":7}', **changes})
    assert records.succeed(attempt, 200, b'{"content":"zebra"}')
    return attempt.task_id


def made(client: BrokerClient) -> list[str]:
    """Return the deliveries that were made, sorted."""
    return sorted(member.decode() for member in client.zrange(keys.DELIVERIES, 0, -1))


def forged() -> float:
    value: float = worker.FORGED.labels("note")._value.get()
    return value


def test_the_record_that_workers_read_has_no_address_and_no_secret(records, client, hooks) -> None:
    task_id = accepted(records, webhook=HOOK)
    record = records.get(task_id)
    assert record["hook"] == "started succeeded cancelled"
    assert "hooks.example" not in str(record)
    assert "whsec_" not in str(record)
    assert hooks.read(task_id) == HOOK
    assert hooks.read(accepted(records)) == ""


def test_a_task_without_a_webhook_leaves_no_note_and_no_hook(records, client) -> None:
    ended(records, webhook="")
    assert not list(client.scan_iter("graycat:hook*"))
    assert not list(client.scan_iter("graycat:changed*"))


def test_a_note_becomes_the_deliveries_of_all_that_has_happened(records, client, hooks, deliveries) -> None:
    task_id = ended(records)
    hooks.observe(deliveries.now_ms())
    assert made(client) == [f"{task_id} started", f"{task_id} succeeded"]
    start = deliveries.begin(task_id, "started", deliveries.now_ms())
    assert (start.fields["task_state"], start.fields["status"], start.fields["finished_ms"]) == ("running", "", "")
    end = deliveries.begin(task_id, "succeeded", deliveries.now_ms())
    assert (end.fields["status"], end.fields["metadata"], end.owner) == ("200", '{"order":7}', "tests")
    assert not client.exists(changed_key("llm"), keys.HOOKS)


def test_a_task_that_home_has_ended_is_told_of(records, client, hooks, deliveries) -> None:
    task_id = accepted(records, webhook=HOOK)
    records.cancel(task_id)
    hooks.observe(deliveries.now_ms())
    assert made(client) == [f"{task_id} cancelled"]


def test_nothing_is_told_twice_however_often_it_is_noted(records, client, hooks, deliveries) -> None:
    attempt = started(records, webhook=HOOK)
    task_id = attempt.task_id
    hooks.observe(deliveries.now_ms())
    # It was sent, and is forgotten.
    client.delete(keys.DELIVERIES, keys.delivery_key(task_id, "started"))
    records.release(attempt)
    records.succeed(claimed(records, task_id), 200, b"")
    for _ in range(2):
        client.zadd(changed_key("llm"), {task_id: 1})
        hooks.observe(deliveries.now_ms())
    assert made(client) == [f"{task_id} succeeded"]
    client.delete(keys.DELIVERIES, keys.delivery_key(task_id, "succeeded"))
    client.zadd(changed_key("llm"), {task_id: 1})
    hooks.observe(deliveries.now_ms())
    assert made(client) == []


def test_any_number_of_control_workers_make_one_delivery(records, client, deliveries) -> None:
    tasks = [ended(records, webhook=Webhook("https://a.example/", ("succeeded",)).to_json()) for _ in range(8)]
    waits = [outcome_of(lambda: Hooks(client).observe(deliveries.now_ms())) for _ in range(4)]
    for wait in waits:
        wait()
    assert made(client) == sorted(f"{task_id} succeeded" for task_id in tasks)
    assert {int(client.hget(keys.delivery_key(task, "succeeded"), "attempts")) for task in tasks} == {0}


class Killed(BaseException):
    """Ends a control worker."""


def test_a_control_worker_that_dies_when_it_has_read_the_notes_loses_none(
    records, client, hooks, deliveries, monkeypatch
) -> None:
    tasks = [ended(records, webhook=Webhook("https://a.example/", ("succeeded",)).to_json()) for _ in range(3)]
    looked: list[str] = []

    def look_and_die(task_id: str, _now_ms: int) -> None:
        looked.append(task_id)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(hooks, "_look", look_and_die)
        with pytest.raises(Killed):
            hooks.observe(deliveries.now_ms())
    assert len(looked) == 1
    Hooks(client).observe(deliveries.now_ms())
    assert made(client) == sorted(f"{task_id} succeeded" for task_id in tasks)
    assert not client.exists(changed_key("llm"))


def test_a_note_that_is_written_during_the_look_stays(records, client, hooks, deliveries, monkeypatch) -> None:
    task_id = ended(records)
    look = hooks._look

    def look_and_note(noted: str, now_ms: int) -> None:
        look(noted, now_ms)
        client.zadd(changed_key("llm"), {noted: deliveries.now_ms() + 5})

    monkeypatch.setattr(hooks, "_look", look_and_note)
    hooks.observe(deliveries.now_ms())
    assert client.zrange(changed_key("llm"), 0, -1) == [task_id.encode()]


@pytest.mark.parametrize("written", [float("inf"), float("-inf"), 1e300, 0.1])
def test_a_note_with_a_forged_time_is_looked_at_and_forgotten(records, client, hooks, deliveries, written) -> None:
    task_id = ended(records)
    client.zadd(changed_key("llm"), {task_id: written})
    hooks.observe(deliveries.now_ms())
    assert made(client) == [f"{task_id} started", f"{task_id} succeeded"]
    assert not client.exists(changed_key("llm"))


def test_a_note_that_was_lost_is_made_up_for(records, client, hooks, deliveries) -> None:
    task_id = ended(records)
    waiting = accepted(records, webhook=HOOK)
    client.delete(changed_key("llm"))
    hooks.observe(deliveries.now_ms())
    assert made(client) == []
    hooks.observe(deliveries.now_ms() + LOOK_INTERVAL_MS)
    assert made(client) == [f"{task_id} started", f"{task_id} succeeded"]
    # What has not ended is looked at again.
    assert client.zscore(keys.HOOKS, waiting) > deliveries.now_ms() + LOOK_INTERVAL_MS


def test_a_record_waits_a_day_for_home_and_then_lives_as_long_as_any(
    records, client, settings, hooks, deliveries
) -> None:
    task_id = ended(records)
    kept_ms = settings.record_ttl_s * 1000
    assert client.pttl(record_key(task_id)) > DAY_MS + kept_ms - 60_000
    hooks.observe(deliveries.now_ms())
    assert client.pttl(record_key(task_id)) <= kept_ms
    assert 0 < client.pttl(hook_key(task_id)) <= kept_ms


def test_a_task_whose_record_is_lost_is_forgotten(records, client, hooks, deliveries) -> None:
    gone, spoiled, good = (ended(records) for _ in range(3))
    client.delete(record_key(gone), record_key(spoiled))
    client.set(record_key(spoiled), "another program's")
    hooks.observe(deliveries.now_ms())
    assert made(client) == [f"{good} started", f"{good} succeeded"]
    assert not client.exists(keys.HOOKS)


#: The id of an image task: of another family than the tasks of these tests.
FOREIGN = "8" + 31 * "0"


@pytest.mark.parametrize("note", [b"\xff", b"", b"x" * 100, b"0" * 31, FOREIGN.encode()])
def test_a_note_that_is_no_task_of_the_family_is_counted_and_dropped(records, client, hooks, deliveries, note) -> None:
    before = forged()
    client.zadd(changed_key("llm"), {note: 1})
    task_id = ended(records)
    hooks.observe(deliveries.now_ms())
    assert made(client) == [f"{task_id} started", f"{task_id} succeeded"]
    assert forged() == before + 1
    assert not client.exists(changed_key("llm"))


def test_a_flood_of_notes_is_worked_off_in_parts(records, client, hooks, deliveries) -> None:
    client.zadd(changed_key("llm"), {f"{number:032x}": 1 for number in range(MAX_NOTES + 5)})
    hooks.observe(deliveries.now_ms())
    assert client.zcard(changed_key("llm")) == 5


def test_notes_of_another_type_are_moved_and_what_they_said_is_made_up_for(records, client, hooks, deliveries) -> None:
    client.set(changed_key("llm"), "another program's")
    task_id = ended(records)
    hooks.observe(deliveries.now_ms())
    assert client.get(wrong_type_key(changed_key("llm"))) == b"another program's"
    hooks.observe(deliveries.now_ms() + LOOK_INTERVAL_MS)
    assert made(client) == [f"{task_id} started", f"{task_id} succeeded"]


@pytest.mark.parametrize("written", ["x" * 40, "-1", "1e9", "", "0x10", "12345678901234567890"])
def test_what_is_no_number_in_a_record_is_not_told(records, client, hooks, deliveries, written: str) -> None:
    task_id = ended(records)
    client.hset(record_key(task_id), mapping={"status": written, "finished_ms": written, "submitted_ms": written})
    hooks.observe(deliveries.now_ms())
    fields = deliveries.begin(task_id, "succeeded", deliveries.now_ms()).fields
    assert (fields["status"], fields["finished_ms"]) == ("", "")
    assert fields["submitted_ms"].isdecimal()


def test_the_record_of_another_owner_is_not_told_of(records, client, hooks, deliveries) -> None:
    task_id = ended(records)
    client.hset(record_key(task_id), "owner", "somebody")
    before = forged()
    hooks.observe(deliveries.now_ms())
    assert made(client) == []
    assert forged() == before + 1
