"""Live batches that are damaged in the broker: the others are served, and the damaged ones end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from graycat.batches.errors import TooManyBatches
from graycat.batches.gallery import export
from graycat.batches.runner import runner
from graycat.batches.runner.finisher import BatchFinisher
from graycat.batches.runner.runner import BatchRunner
from graycat.broker.client import connect
from graycat.broker.keys import LIVE_BATCHES, batch_key, batch_part_key
from graycat.broker.quarantine import Quarantine
from graycat.worker.broker_acl import setuser, worker_rules
from tests.support.batching import TWO, Batching
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, changed
from tests.support.workers import celery_app

Damage = Callable[[BrokerClient, str], object]


@pytest.fixture
def batching(broker: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Batching:
    monkeypatch.setattr(runner, "DEFECT_RETRY_INTERVAL_S", 0.0)
    monkeypatch.setattr(runner, "OUTPUT_RETRY_INTERVAL_S", 0.0)
    return Batching(broker, tmp_path / "out", batch_max_live=2)


def set_field(name: str, value: str | bytes) -> Damage:
    return lambda client, batch_id: client.hset(batch_key(batch_id), name, value)


def replace_key(part: str = "") -> Damage:
    """Return the damage that a key has another type."""

    def damage(client: BrokerClient, batch_id: str) -> None:
        name = batch_part_key(batch_id, part) if part else batch_key(batch_id)
        client.delete(name)
        client.set(name, "rubbish")

    return damage


#: Records that cannot be read at all.
UNREADABLE: dict[str, Damage] = {
    "no hash": replace_key(),
    "half JSON": set_field("terms", '{"folder": "a'),
    "no object": set_field("terms", "[]"),
    "a number that is none": set_field("total", "many"),
    "no text": set_field("name", b"\xff"),
    "no state": set_field("state", ""),
    "a state of another version": set_field("state", "dreaming"),
    "prompts that are no list": set_field("prompts", "7"),
    "no options": lambda client, batch_id: client.hdel(batch_key(batch_id), "terms"),
    "a window that is none": set_field("terms", json.dumps({"window": "always"})),
}

#: Records that can be read, and that an error follows from.
UNUSABLE: dict[str, Damage] = {
    "a document that is no JSON": set_field("document", "{half"),
    "a plan of another type": replace_key("plan"),
    "items of another type": replace_key("items"),
    "a state's numbers of another type": replace_key("waiting"),
    "numbers that are none": lambda client, batch_id: client.zadd(batch_part_key(batch_id, "waiting"), {"x": 0}),
    "an item that is no JSON": lambda client, batch_id: client.hset(batch_part_key(batch_id, "items"), "1", "{half"),
    "an item without its fields": lambda client, batch_id: client.hset(batch_part_key(batch_id, "items"), "1", "{}"),
}


@pytest.mark.parametrize("damage", [pytest.param(damage, id=name) for name, damage in UNREADABLE.items()])
def test_an_unreadable_batch_is_abandoned_and_the_others_go_on(batching: Batching, damage: Damage) -> None:
    bad, good = batching.submit(), batching.submit()
    damage(batching.client, bad)
    assert batching.run_to_end(good) == "succeeded"
    assert batching.client.zscore(LIVE_BATCHES, bad) is None
    (item,) = Quarantine(batching.client).items()
    assert item.where == f"batch {bad}"
    assert batching.client.ttl(batch_key(bad)) > 0
    # Its place is free again.
    for _ in range(2):
        batching.submit()
    with pytest.raises(TooManyBatches):
        batching.submit()
    state = batching.client.hget(batch_key(bad), "state") if batching.client.type(batch_key(bad)) == b"hash" else b""
    assert state in (b"failed", b"")


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("damage", [pytest.param(damage, id=name) for name, damage in UNUSABLE.items()])
def test_an_unusable_batch_ends_as_failed_and_the_others_go_on(
    batching: Batching, damage: Damage, planned: bool
) -> None:
    bad = batching.submit()
    if planned:
        batching.run_steps(2)
    damage(batching.client, bad)
    good = batching.submit()
    assert batching.run_to_end(good) == "succeeded"
    for _ in range(12 * runner.MAX_DEFECTS):
        batching.runner.step()
        batching.render()
    assert batching.client.zscore(LIVE_BATCHES, bad) is None
    record = batching.client.hgetall(batch_key(bad))
    state, reason = record[b"state"].decode(), record.get(b"reason", b"").decode()
    assert state == "succeeded" or (state == "failed" and "graycat cannot work on it" in reason)
    assert batching.client.ttl(batch_key(bad)) > 0
    assert batching.batches.submit(TWO, "tests")[1]


def test_a_plan_with_a_damaged_item_ends_as_failed(batching: Batching) -> None:
    bad = batching.submit({"name": "many", "items": ["x"] * 9})
    batching.run_steps(2)
    batching.client.hset(batch_part_key(bad, "plan"), "3", "{half")
    good = batching.submit()
    assert batching.run_to_end(good) == "succeeded"
    assert batching.run_to_end(bad) == "failed"
    assert "JSONDecodeError, 4 times" in batching.batches.get(bad)["reason"]


def test_fields_of_a_newer_version_are_left_out(batching: Batching) -> None:
    batch_id = batching.submit()
    key = batch_key(batch_id)
    options = json.loads(batching.client.hget(key, "terms") or b"")
    batching.client.hset(key, mapping={"terms": json.dumps(options | {"mood": "good"}), "mood": "good"})
    batching.run_steps(2)
    plan = batch_part_key(batch_id, "plan")
    item = json.loads(batching.client.hget(plan, "1") or b"")
    batching.client.hset(plan, "1", json.dumps(item | {"mood": "good"}))
    assert batching.run_to_end(batch_id) == "succeeded"


def test_a_batch_with_a_defect_is_tried_again_later_and_later(
    batching: Batching, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def explode(*_: object) -> bool:
        tries.append("x")
        raise RuntimeError("of a test")

    monkeypatch.setattr(runner, "DEFECT_RETRY_INTERVAL_S", 3600.0)
    monkeypatch.setattr(batching.runner._preparer, "step", explode)
    batch_id = batching.submit()
    batching.run_steps(20)
    assert len(tries) == 1
    assert batching.state(batch_id) == "paused"
    assert batching.batches.get(batch_id)["reason"] == "graycat cannot work on it: RuntimeError; it is tried again"
    for expected in (2, 3):
        before = batching.runner._defect_retry_at[batch_id]
        batching.runner._defect_retry_at[batch_id] = time.monotonic()
        batching.run_steps(20)
        assert len(tries) == expected
        assert batching.runner._defect_retry_at[batch_id] > before + 3000


def test_a_batch_that_its_owner_paused_stays_so(batching: Batching, monkeypatch: pytest.MonkeyPatch) -> None:
    batch_id = batching.submit()
    batching.run_steps(3)
    batching.batches.pause(batch_id)
    monkeypatch.setattr(runner, "DEFECT_RETRY_INTERVAL_S", 3600.0)
    monkeypatch.setattr(batching.runner._submitter, "withdraw", lambda _: 1 / 0)
    batching.run_steps()
    assert batching.batches.get(batch_id)["reason"] == "paused by its owner"


def test_an_ending_that_raises_ends_all_the_same(batching: Batching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BatchFinisher, "step", lambda *_: 1 / 0)
    batch_id = batching.submit()
    assert batching.run_to_end(batch_id) == "succeeded"
    assert batching.client.ttl(batch_key(batch_id)) > 0


def test_a_gallery_that_cannot_be_written_costs_nothing_else(
    batching: Batching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "render", lambda _: "\ud83d")
    batch_id = batching.submit()
    assert batching.run_to_end(batch_id) == "succeeded"
    assert len(batching.manifest(batch_id)) == 2
    assert not (batching.folder(batch_id) / "index.html").exists()


def test_a_prompt_with_half_a_character_from_an_older_version_ends(batching: Batching) -> None:
    batch_id = batching.submit()
    batching.run_steps(2)
    plan = batch_part_key(batch_id, "plan")
    item = json.loads(batching.client.hget(plan, "1") or b"")
    item["request"]["prompt"] = "half \ud83d"
    batching.client.hset(plan, "1", json.dumps(item))
    assert batching.run_to_end(batch_id) in ("succeeded", "failed")
    assert "half ?" in (batching.folder(batch_id) / "index.html").read_text()


def test_averages_that_are_no_numbers_cost_an_estimate(batching: Batching) -> None:
    batching.client.hset("graycat:batches:speeds", mapping={"sd": "fast", "engines": "many", "sd.txt2img": "x"})
    batch_id = batching.submit()
    assert batching.run_to_end(batch_id) == "succeeded"
    assert len(batching.manifest(batch_id)) == 2


def test_a_control_worker_on_another_machine_may_abandon_a_batch(batching: Batching) -> None:
    password = "a-password-of-the-tests"
    batching.client.execute_command(*setuser("desk", password, worker_rules("desk", ["control"])).split())
    batching.client.acl_log_reset()
    bad = batching.submit()
    batching.client.hset(batch_key(bad), "terms", "{half")
    try:
        path = str(batching.settings.broker_socket)
        # It does not introduce itself: the user may not send that.
        with closing(connect(changed(batching.settings, redis_url=f"unix://desk:{password}@{path}"))) as client:
            BatchRunner(client, batching.settings, celery_app(batching.broker.settings.home)).step()
        assert [(row["reason"], row["object"]) for row in batching.client.acl_log()] == []
    finally:
        batching.client.acl_deluser("desk")
    assert [item.where for item in Quarantine(batching.client).items()] == [f"batch {bad}"]
