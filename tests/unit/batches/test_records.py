from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graycat.batches.errors import BatchConflict, BatchNotFound, InvalidBatch, TooManyBatches, WrongBatchState
from graycat.batches.records import BatchRecords, batch_id_for_key
from graycat.batches.states import part_keys
from graycat.broker import keys
from graycat.broker.client import connect
from graycat.broker.keys import batch_key
from graycat.errors import BrokerFull, BrokerUnavailable, StoredBytesExceeded
from graycat.loops.unexpected import UNEXPECTED
from graycat.queue.stored import OVERHEAD_BYTES, StoredBytes
from graycat.settings import Settings
from graycat.status.batches import read_batches
from tests.support.batching import TWO, Batching
from tests.support.helpers import Valkey, changed


@pytest.fixture
def batches(broker: Valkey) -> BatchRecords:
    return BatchRecords(broker.client, broker.settings)


def test_a_batch_is_there_before_anything_is_planned(batches: BatchRecords) -> None:
    batch_id, new = batches.submit(TWO, "anna")
    view = batches.get(batch_id)
    assert new
    assert (view["state"], view["total"], view["progress"]["waiting"]) == ("queued", 2, 2)
    assert batches.list_items(batch_id) == []
    assert batches.load_document(batch_id) == TWO


def test_the_same_key_and_spec_are_the_same_batch(batches: BatchRecords) -> None:
    first, again = batches.submit(TWO, "anna", "night"), batches.submit(TWO, "anna", "night")
    assert (first[1], again) == (True, (first[0], False))
    assert first[0] == batch_id_for_key("anna", "night")
    assert batches.submit(TWO, "bert", "night")[1]
    with pytest.raises(BatchConflict):
        batches.submit(TWO | {"count": 2}, "anna", "night")


def test_an_unusable_spec_leaves_nothing(batches: BatchRecords, broker: Valkey) -> None:
    with pytest.raises(InvalidBatch):
        batches.submit({"name": "x"}, "anna")
    assert list(broker.client.scan_iter("graycat:batch*")) == []


def test_everybody_sees_their_own(batches: BatchRecords) -> None:
    mine = [batches.submit(TWO | {"name": f"mine {n}"}, "anna")[0] for n in range(3)]
    other = batches.submit(TWO, "bert")[0]
    pages = [batches.list("anna", 2), batches.list("anna", 2, 2)]
    assert [len(page) for page in pages] == [2, 1]
    rows = [row for page in pages for row in page]
    assert {row["id"] for row in rows} == set(mine)
    times = [row["submitted_ms"] for row in rows]
    assert times == sorted(times, reverse=True)
    assert len(batches.list()) == 4
    actions = (batches.pause, batches.resume, batches.cancel, batches.retry_failed)
    for look in (batches.get, batches.load_document, *actions):
        with pytest.raises(BatchNotFound):
            look(other, "anna")
    with pytest.raises(BatchNotFound):
        batches.list_items(other, owner="anna")


def test_a_batch_that_is_unknown(batches: BatchRecords) -> None:
    for look in (batches.get, batches.load_document, batches.list_items, batches.pause, batches.cancel):
        with pytest.raises(BatchNotFound):
            look("nothing")


def test_an_owner_has_so_many_at_once(broker: Valkey) -> None:
    batches = BatchRecords(broker.client, changed(broker.settings, batch_max_live=2))
    first = batches.submit(TWO, "anna", "k")[0]
    batches.submit(TWO, "anna")
    with pytest.raises(TooManyBatches):
        batches.submit(TWO, "anna")
    # What is there already is no other.
    assert batches.submit(TWO, "anna", "k") == (first, False)
    assert batches.submit(TWO, "bert")[1]


def test_a_batch_is_charged_with_its_document_and_its_plan(broker: Valkey) -> None:
    def charged(**changes: object) -> int:
        broker.client.delete(keys.STORED, keys.STORED_CHARGES)
        BatchRecords(broker.client, broker.settings).submit(TWO | changes, "anna/player")
        accounts = broker.client.hmget(keys.STORED, ("*", "anna", "anna/player"))
        assert len(set(accounts)) == 1
        return int(accounts[0] or 0)

    two, many = charged(), charged(count=500)
    assert 2 * OVERHEAD_BYTES < two < 4 * OVERHEAD_BYTES
    # Each of its images has its own request in the plan.
    assert 450 * two < many < 550 * two


def test_a_batch_that_has_no_room_is_refused_and_leaves_nothing(broker: Valkey) -> None:
    batches = BatchRecords(broker.client, changed(broker.settings, stored_bytes_per_token=10_000))
    batch_id = batches.submit(TWO, "anna", "k")[0]
    before = set(broker.client.keys())
    with pytest.raises(StoredBytesExceeded, match="this API token may have 10000 bytes"):
        batches.submit(TWO | {"count": 10}, "anna")
    assert set(broker.client.keys()) == before
    assert batches.submit(TWO, "anna", "k") == (batch_id, False)
    assert batches.submit(TWO, "bert")[1]
    # What it held is free when its record is gone.
    broker.client.delete(batch_key(batch_id))
    StoredBytes(broker.client).settle()
    assert broker.client.hget(keys.STORED, "anna") is None


def test_a_broker_that_is_nearly_full_takes_no_batch(broker: Valkey, batches: BatchRecords) -> None:
    broker.client.config_set("maxmemory", broker.client.info("memory")["used_memory"])
    try:
        with pytest.raises(BrokerFull):
            batches.submit(TWO, "anna")
        assert broker.client.keys("graycat:batch:*") == []
    finally:
        broker.client.config_set("maxmemory", 0)


def test_states_and_what_may_be_asked_in_them(batches: BatchRecords) -> None:
    batch_id = batches.submit(TWO, "anna")[0]
    with pytest.raises(WrongBatchState):
        batches.resume(batch_id)
    assert batches.pause(batch_id)["reason"] == "paused by its owner"
    assert batches.pause(batch_id)["state"] == "paused"
    assert batches.resume(batch_id)["state"] == "queued"
    ended = batches.cancel(batch_id)
    assert (ended["state"], ended["finished_ms"] is not None) == ("cancelled", True)
    assert batches.cancel(batch_id)["finished_ms"] == ended["finished_ms"]
    with pytest.raises(WrongBatchState):
        batches.pause(batch_id)
    again = batches.retry_failed(batch_id)
    assert (again["state"], again["finished_ms"], again["reason"]) == ("queued", None, "")


def test_a_batch_s_record_expires_and_its_files_stay(broker: Valkey, tmp_path: Path) -> None:
    batching = Batching(broker, tmp_path, batch_ttl_s=1000.0)
    batch_id = batching.submit()
    assert broker.client.ttl(f"graycat:batch:{batch_id}") == -1
    batching.run_to_end(batch_id)
    names = [f"graycat:batch:{batch_id}", *(name for name in part_keys(batch_id) if broker.client.exists(name))]
    assert len(names) == 4
    assert all(0 < broker.client.ttl(name) <= 1000 for name in names)
    batching.batches.resume(batch_id)
    assert all(broker.client.ttl(name) == -1 for name in names)


def test_what_is_over_and_forgotten_leaves_the_lists(batches: BatchRecords, broker: Valkey) -> None:
    for _ in range(3):
        broker.client.delete(f"graycat:batch:{batches.submit(TWO, 'anna')[0]}")
    kept = batches.submit(TWO, "anna")[0]
    names = ("graycat:batches", "graycat:batches:of:anna")
    assert [broker.client.zrange(name, 0, -1) for name in names] == [[kept.encode()]] * 2
    assert [row["id"] for row in batches.list("anna")] == [kept]


def test_items_are_listed_by_number_and_by_state(broker: Valkey, tmp_path: Path) -> None:
    batching = Batching(broker, tmp_path)
    batch_id = batching.submit(count=3)
    batching.run_steps(3)
    batching.render()
    batching.runner.step()
    rows = batching.batches.list_items(batch_id, 1, 3)
    assert [row["number"] for row in rows] == [2, 3, 4]
    (done,) = batching.batches.list_items(batch_id, state="done")
    assert (done["number"], done["state"], done["attempts"], len(done["sha256"])) == (1, "done", 1, 64)
    assert batching.batches.get_item(batch_id, 1) == done
    assert batching.batches.get_item(batch_id, 7) is batching.batches.get_item(batch_id, 0) is None
    lines: list[Any] = [json.loads(line) for line in batching.batches.manifest_lines(batch_id)]
    assert lines == batching.manifest(batch_id)
    view = batching.batches.get(batch_id)
    assert view["gpu_s"] >= 0


def test_without_a_broker_it_says_so(no_broker: Settings) -> None:
    batches = BatchRecords(connect(no_broker), no_broker)
    for look in (lambda: batches.submit(TWO, "anna"), batches.list, lambda: batches.get("x")):
        with pytest.raises(BrokerUnavailable):
            look()


@pytest.mark.parametrize(
    ("name", "value"),
    [("total", "many"), ("terms", "{half"), ("name", b"\xff"), ("work", "x"), ("gpu_ms", "1.5.2"), ("", "")],
)
def test_a_damaged_batch_keeps_no_other_from_being_listed(
    batches: BatchRecords, broker: Valkey, name: str, value: str | bytes
) -> None:
    bad, good = (batches.submit(TWO, "anna")[0] for _ in range(2))
    key = f"graycat:batch:{bad}"
    if name:
        broker.client.hset(key, name, value)
    else:
        broker.client.delete(key)
        broker.client.set(key, "no hash")
    before = UNEXPECTED.labels("batches")._value.get()
    for rows in (batches.list("anna"), batches.list(), batches.list_live()):
        assert [row["id"] for row in rows] == [good]
    assert UNEXPECTED.labels("batches")._value.get() == before + 3
    assert batches.get(good)["state"] == "queued"
    assert read_batches(batches, 0).states["queued"] == 1


def test_ids_that_are_none_are_left_out(batches: BatchRecords, broker: Valkey) -> None:
    good = batches.submit(TWO, "anna")[0]
    for name in ("graycat:batches", "graycat:batches:of:anna", "graycat:batches:live"):
        broker.client.zadd(name, {b"\xff\xfe": 1, "": 2, "a b:c": 3})
    for rows in (batches.list("anna"), batches.list(), batches.list_live()):
        assert [row["id"] for row in rows] == [good]


def test_a_damaged_item_keeps_no_other_from_being_shown(broker: Valkey, tmp_path: Path) -> None:
    batching = Batching(broker, tmp_path)
    batch_id = batching.submit(count=3)
    batching.run_to_end(batch_id)
    lines = list(batching.batches.manifest_lines(batch_id))
    broker.client.hset(f"graycat:batch:{batch_id}:plan", "2", "{half")
    broker.client.hset(f"graycat:batch:{batch_id}:items", "4", '{"state": "done"}')
    assert [row["number"] for row in batching.batches.list_items(batch_id)] == [1, 3, 5, 6]
    assert batching.batches.get_item(batch_id, 2) is None
    assert list(batching.batches.manifest_lines(batch_id)) == [*lines[:3], *lines[4:]]
