from __future__ import annotations

import json
from pathlib import Path

import pytest

from graycat.errors import EngineError
from graycat.webhooks.webhook import build_payload
from tests.support.batching import TWO, Batching
from tests.support.helpers import Valkey


@pytest.fixture
def batching(broker: Valkey, tmp_path: Path) -> Batching:
    return Batching(broker, tmp_path / "out")


def test_the_manifest_is_in_the_order_of_the_items_at_the_end(batching: Batching) -> None:
    batch_id = batching.submit()
    batching.run_steps(4)
    attempts = [batching.claim_next(), batching.claim_next()]
    for attempt in reversed(attempts):
        assert attempt is not None
        batching.finish(attempt)
        batching.run_steps(1)
    assert [line["item"] for line in batching.manifest(batch_id)] == [2, 1]
    batching.run_steps(3)
    assert [line["item"] for line in batching.manifest(batch_id)] == [1, 2]


def test_a_batch_that_is_cancelled_before_it_began_leaves_nothing(batching: Batching) -> None:
    batch_id = batching.submit()
    batching.batches.cancel(batch_id)
    batching.run_steps(2)
    assert batching.client.zcard("graycat:batches:live") == 0
    assert not batching.out.exists()


def test_a_few_failures_may_be_as_many_as_allowed(batching: Batching) -> None:
    batch_id = batching.submit(max_failures=1)
    batching.run_steps(4)
    attempt = batching.claim_next()
    assert attempt is not None
    batching.fail(attempt, EngineError(422, b'{"detail": "no"}'))
    assert batching.run_to_end(batch_id) == "succeeded"
    assert batching.progress(batch_id) == {"done": 1, "failed": 1}


def test_a_render_that_is_stopped_tells_its_worker(batching: Batching) -> None:
    batch_id = batching.submit()
    batching.run_steps(4)
    attempt = batching.claim_next()
    assert attempt is not None
    batching.run_steps(1)
    batching.batches.cancel(batch_id)
    with batching.client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.psubscribe("*celery.pidbox*")
        pubsub.get_message(timeout=1)
        batching.run_steps(1)
        assert pubsub.get_message(timeout=1) is not None


def test_a_webhook_receives_the_batch_without_its_prompts(batching: Batching) -> None:
    batch_id = batching.submit(TWO | {"webhook": {"url": "https://a.example/"}})
    batching.run_to_end(batch_id)
    found = batching.client.hgetall(f"graycat:delivery:{batch_id}:succeeded")
    fields = {name.decode(): value.decode() for name, value in found.items()}
    told = json.loads(build_payload(batch_id, "succeeded", fields))
    assert (told["type"], told["data"]["state"], told["data"]["progress"]["done"]) == (
        "batch.succeeded",
        "succeeded",
        2,
    )
    assert told["data"]["links"] == {"batch": f"/batches/{batch_id}"}
    assert "knight" not in json.dumps(told)


def test_events_without_a_subscription_are_not_delivered(batching: Batching) -> None:
    hook = {"url": "https://a.example/", "events": ["failed"]}
    batching.run_to_end(batching.submit(TWO | {"webhook": hook}))
    assert batching.client.zcard("graycat:deliveries") == 0
