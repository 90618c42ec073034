"""A queue's cap counts what really waits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graycat.broker import keys
from graycat.errors import QueueFull
from graycat.queue.models import NewTask
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from tests.support.helpers import claimed


@pytest.fixture
def records(client, settings: Settings) -> TaskRecords:
    return TaskRecords(client, replace(settings, queue_cap=3))


def accept(records: TaskRecords, name: str, owner: str = "") -> None:
    task = NewTask(name, "llm.completion", "plain", "llm", b"{}", owner=owner or name)
    records.create(task, f"message of {name}".encode())


def test_tasks_that_wait_aside_count(records: TaskRecords) -> None:
    for name in ("a", "b", "c"):
        accept(records, name, owner="one")
    with pytest.raises(QueueFull):
        accept(records, "d", owner="another")


def test_tasks_whose_clients_left_take_nobody_s_place(records: TaskRecords) -> None:
    for name in ("a", "b", "c"):
        accept(records, name)
    for name in ("a", "b", "c"):
        records.cancel(name)
    for name in ("d", "e", "f"):
        accept(records, name)
    with pytest.raises(QueueFull):
        accept(records, "g")


def test_a_dead_message_that_is_taken_counts_no_more(records: TaskRecords, client) -> None:
    for name in ("a", "b", "c"):
        accept(records, name)
    records.cancel("a")
    client.rpop("llm")
    assert records.claim("a", "llm@here") == "finished"
    accept(records, "d")
    with pytest.raises(QueueFull):
        accept(records, "e")


def test_an_emptied_queue_forgets_its_dead(records: TaskRecords, client) -> None:
    for name in ("a", "b", "c"):
        accept(records, name)
        records.cancel(name)
    client.delete("llm")
    for name in ("d", "e", "f"):
        accept(records, name)
    with pytest.raises(QueueFull):
        accept(records, "g")


def test_a_dead_message_of_a_task_that_was_handed_back_counts_no_more(records: TaskRecords, client) -> None:
    for name in ("a", "b", "c"):
        accept(records, name)
    assert records.release(claimed(records, "a"))
    records.cancel("a")
    # Its message is taken.
    assert records.claim("a", "llm@here") == "finished"
    assert records.claim("a", "llm@here") == "finished"
    assert client.get(keys.dead_messages_key("llm")) == b"0"
