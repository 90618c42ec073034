from __future__ import annotations

import pytest

from graycat.batches import live
from graycat.batches.live import LiveBatches
from graycat.batches.records import BatchRecords
from graycat.broker.keys import LIVE_BATCHES, batch_key
from tests.support.batching import TWO
from tests.support.helpers import Valkey


@pytest.fixture
def batches(broker: Valkey) -> BatchRecords:
    return BatchRecords(broker.client, broker.settings)


@pytest.fixture
def live_batches(broker: Valkey) -> LiveBatches:
    return LiveBatches(broker.client)


def test_live_batches_are_in_the_order_of_their_turns(live_batches: LiveBatches, batches: BatchRecords) -> None:
    ids = [batches.submit(TWO, "anna", key)[0] for key in "abc"]
    for batch_id in (ids[1], ids[0]):
        live_batches.move_to_back(batch_id)
    assert [batch.id for batch in live_batches.load_all()] == [ids[2], ids[1], ids[0]]
    (first, *_) = live_batches.load_all()
    assert (first.owner, first.key, first.total, first.next_to_verify, first.planned) == ("anna", "c", 2, 1, False)


def test_a_batch_whose_record_has_expired_is_not_live(live_batches: LiveBatches, broker: Valkey) -> None:
    broker.client.zadd("graycat:batches:live", {"gone": 1})
    assert live_batches.load_all() == []
    assert broker.client.zcard("graycat:batches:live") == 0


@pytest.mark.parametrize("number", [0, 1, 5])
def test_a_batch_goes_on_whose_place_among_the_live_ones_is_lost(
    live_batches: LiveBatches, batches: BatchRecords, broker: Valkey, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(live, "MAX_RELISTED", 2)
    ids = [batches.submit(TWO, "anna", str(key))[0] for key in range(number)]
    ended = batches.submit(TWO, "anna", "ended")[0]
    broker.client.delete(LIVE_BATCHES)
    broker.client.pexpire(batch_key(ended), 60_000)
    put_back = [batch_id for _ in range(4) for batch_id in live_batches.relist()]
    assert sorted(put_back) == sorted(ids)
    assert sorted(batch.id for batch in live_batches.load_all()) == sorted(ids)
    assert [live_batches.relist() for _ in range(4)] == [[]] * 4


def test_batches_keep_their_turns_when_none_is_missing(live_batches: LiveBatches, batches: BatchRecords) -> None:
    ids = [batches.submit(TWO, "anna", key)[0] for key in "ab"]
    live_batches.move_to_back(ids[0])
    assert live_batches.relist() == []
    assert [batch.id for batch in live_batches.load_all()] == [ids[1], ids[0]]


def test_a_deadline_counts_from_the_submission(live_batches: LiveBatches, batches: BatchRecords) -> None:
    batches.submit(TWO | {"deadline": 60}, "anna")
    (batch,) = live_batches.load_all()
    assert batch.deadline_ms == batch.submitted_ms + 60_000


def test_fields_are_updated(live_batches: LiveBatches, batches: BatchRecords) -> None:
    batch_id = batches.submit(TWO, "anna")[0]
    live_batches.update_fields(batch_id, {"reason": "why", "verify": ""})
    live_batches.increment(batch_id, "gpu_ms", 1500)
    (batch,) = live_batches.load_all()
    assert (batch.reason, batch.next_to_verify) == ("why", 0)
    assert batches.get(batch_id)["gpu_s"] == 1.5
    assert live_batches.load_document(batch_id) == TWO


def test_a_folder_belongs_to_one_live_batch(live_batches: LiveBatches, batches: BatchRecords, broker: Valkey) -> None:
    ids = [batches.submit(TWO, "anna", key)[0] for key in "ab"]
    one, other = sorted(live_batches.load_all(), key=lambda batch: ids.index(batch.id))
    assert live_batches.claim_folder(one, "f") == live_batches.claim_folder(one, "f") == ""
    assert live_batches.claim_folder(other, "f") == one.id
    assert live_batches.claim_folder(other, "g") == ""
    # Its owner has ended without a word.
    broker.client.zrem("graycat:batches:live", one.id)
    assert live_batches.claim_folder(other, "f") == ""
