from __future__ import annotations

import re

import pytest

from graycat.broker import keys
from graycat.queue.records import TaskRecords
from graycat.worker import box_keys
from graycat.worker.box_keys import Bound, BoxKeys, bound_of
from graycat.worker.broker_acl import worker_rules
from tests.support.broker import BrokerClient
from tests.support.helpers import accepted, claimed

TEXT_ID, IMAGE_ID = "0" * 32, "8" * 32
#: What a box may write without a lifetime: the commands.
WITHOUT_LIFETIME = {
    keys.record_key(TEXT_ID): ("HSET", "a", "b"),
    keys.events_key(TEXT_ID): ("XADD", "*", "a", "b"),
    keys.artifact_key(IMAGE_ID, 0): ("SET", "x"),
    keys.preview_key(IMAGE_ID): ("SET", "x"),
    keys.worker_key("llm@box"): ("SET", "x"),
    keys.catalog_key("llm@box"): ("HSET", "a", "b"),
    keys.turn_key("llm", "x"): ("SET", "x"),
    keys.parked_count_key("llm:anything"): ("SET", "x"),
    keys.failures_key("llm"): ("XADD", "*", "a", "b"),
    keys.quarantine_key("llm"): ("LPUSH", "x"),
    keys.sweeper_lock_key("llm"): ("SET", "x"),
    "unacked_mutex:llm": ("SET", "x"),
    "anything.reply.celery.pidbox": ("LPUSH", "x"),
}


@pytest.mark.parametrize("key", WITHOUT_LIFETIME)
def test_what_a_box_writes_without_a_lifetime_gets_one(client: BrokerClient, key: str) -> None:
    command, *arguments = WITHOUT_LIFETIME[key]
    client.execute_command(command, key, *arguments)
    BoxKeys(client).step()
    assert 0 < client.pttl(key) <= 7 * 24 * 3600 * 1000


def test_what_is_too_large_is_deleted(
    client: BrokerClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(box_keys.BOUNDS, "task:", Bound(1000, 10_000))
    monkeypatch.setitem(box_keys.CELERY_BOUNDS, "llm", Bound(0, 10_000))
    small, large = keys.record_key("1" * 32), keys.record_key("2" * 32)
    client.hset(small, "body", "x" * 5000)
    client.hset(large, "body", "x" * 20_000)
    client.lpush("llm", *["x" * 1000] * 20)
    client.lpush("control", *["x" * 1000] * 20)
    BoxKeys(client).step()
    assert {key for key in (small, large, "llm", "control") if client.exists(key)} == {small, "control"}
    assert "larger than any" in caplog.text


def test_keys_of_home_are_let_be(client: BrokerClient) -> None:
    for key in (keys.API_TOKENS, keys.PAUSED_QUEUES, keys.DELIVERIES, "anything", "control", keys.live_key("llm")):
        client.hset(key, "a", "b")
    before = {key: client.dump(key) for key in client.keys("*")}
    BoxKeys(client).step()
    assert {key: client.dump(key) for key in client.keys("*")} == before
    assert all(client.pttl(key) == -1 for key in before)


def test_all_keys_are_looked_at_in_turn(client: BrokerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box_keys, "KEYS_PER_STEP", 10)
    names = [keys.record_key(f"0{number}") for number in range(100)]
    for name in names:
        client.hset(name, "a", "b")
    looked = BoxKeys(client)
    for _ in range(40):
        looked.step()
    assert all(client.pttl(name) > 0 for name in names)


def test_a_task_of_ours_goes_its_way(client: BrokerClient, records: TaskRecords) -> None:
    task_id = accepted(records)
    second = accepted(records)
    BoxKeys(client).step()
    assert records.succeed(claimed(records, task_id), 200, b"{}")
    assert client.get(keys.turn_key("llm", "tests")) == second.encode()


@pytest.mark.parametrize("kind", ["llm", "quick", "sd"])
def test_each_key_that_a_box_may_create_has_a_bound(kind: str) -> None:
    creating = {
        "set",
        "hset",
        "hsetnx",
        "hincrby",
        "lpush",
        "rpush",
        "sadd",
        "zadd",
        "xadd",
        "incr",
        "decr",
        "setrange",
    }
    for rule in worker_rules("box", [kind]):
        words = rule.strip("()").split()
        if not creating & {word[1:] for word in words if word.startswith("+")}:
            continue
        for pattern in [word for word in words if word[0] in "~%"]:
            name = re.sub(r"\[.*?\]", "x", pattern.partition("~")[2]).replace("*", "x")
            assert bound_of(name) is not None, pattern
