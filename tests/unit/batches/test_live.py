from __future__ import annotations

import pytest

from graycat.batches.live import LiveBatches
from graycat.batches.records import BatchRecords
from tests.support.batching import TWO
from tests.support.helpers import Valkey


@pytest.fixture
def batches(broker: Valkey) -> BatchRecords:
    return BatchRecords(broker.client, broker.settings)


@pytest.fixture
def heads(broker: Valkey) -> LiveBatches:
    return LiveBatches(broker.client)


def test_live_batches_are_in_the_order_of_their_turns(heads: LiveBatches, batches: BatchRecords) -> None:
    ids = [batches.submit(TWO, "anna", key)[0] for key in "abc"]
    for batch_id in (ids[1], ids[0]):
        heads.had_turn(batch_id)
    assert [head.id for head in heads.all()] == [ids[2], ids[1], ids[0]]
    (first, *_) = heads.all()
    assert (first.owner, first.key, first.total, first.verify, first.planned) == ("anna", "c", 2, 1, 0)


def test_one_that_is_gone_is_live_no_more(heads: LiveBatches, broker: Valkey) -> None:
    broker.client.zadd("graycat:batches:live", {"gone": 1})
    assert heads.all() == []
    assert broker.client.zcard("graycat:batches:live") == 0


def test_a_deadline_counts_from_the_submission(heads: LiveBatches, batches: BatchRecords) -> None:
    batches.submit(TWO | {"deadline": 60}, "anna")
    (head,) = heads.all()
    assert head.deadline_ms == head.submitted_ms + 60_000


def test_notes(heads: LiveBatches, batches: BatchRecords) -> None:
    batch_id = batches.submit(TWO, "anna")[0]
    heads.note(batch_id, {"reason": "why", "verify": ""})
    heads.add(batch_id, "gpu_ms", 1500)
    (head,) = heads.all()
    assert (head.reason, head.verify) == ("why", 0)
    assert batches.get(batch_id)["gpu_s"] == 1.5
    assert heads.document(batch_id) == TWO


def test_a_folder_belongs_to_one_live_batch(heads: LiveBatches, batches: BatchRecords, broker: Valkey) -> None:
    ids = [batches.submit(TWO, "anna", key)[0] for key in "ab"]
    one, other = sorted(heads.all(), key=lambda head: ids.index(head.id))
    assert heads.claim_folder(one, "f") == heads.claim_folder(one, "f") == ""
    assert heads.claim_folder(other, "f") == one.id
    assert heads.claim_folder(other, "g") == ""
    # Its owner has ended without a word.
    broker.client.zrem("graycat:batches:live", one.id)
    assert heads.claim_folder(other, "f") == ""
