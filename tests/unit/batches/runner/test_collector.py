from __future__ import annotations

from pathlib import Path

import pytest

from graycat.batches.errors import OutputUnavailable
from graycat.batches.output import Output
from graycat.batches.runner import runner
from graycat.errors import EngineError, EngineLost, TaskTimeout
from graycat.storage.errors import ArtifactsUnavailable
from graycat.storage.redis_artifacts import BrokerArtifacts
from tests.support.batching import Batching
from tests.support.helpers import Valkey

ONE = {"name": "one", "items": ["a"]}


@pytest.fixture
def batching(broker: Valkey, tmp_path: Path) -> Batching:
    return Batching(broker, tmp_path / "out")


def test_an_item_is_seen_to_run(batching: Batching) -> None:
    batch_id = batching.submit(ONE)
    batching.run_steps(4)
    assert batching.batches.list_items(batch_id)[0]["state"] == "queued"
    batching.claim_next()
    batching.runner.step()
    assert batching.batches.list_items(batch_id)[0]["state"] == "running"


def test_an_image_that_is_damaged_on_its_way_is_made_again(batching: Batching) -> None:
    batch_id = batching.submit(ONE)
    batching.run_steps(4)
    attempt = batching.claim_next()
    assert attempt is not None
    batching.finish(attempt)
    batching.client.setrange(f"graycat:artifact:{attempt.task_id}:0", 0, b"XXXX")
    assert batching.run_to_end(batch_id) == "succeeded"
    assert (len(batching.requests), batching.manifest(batch_id)[0]["attempts"]) == (2, 2)


def test_attempts_of_one_task_count_too(batching: Batching) -> None:
    batch_id = batching.submit(ONE)
    batching.run_steps(4)
    attempt = batching.claim_next()
    assert attempt is not None
    # Its worker died; another takes the same task.
    batching.records.release(attempt)
    again = batching.records.claim(attempt.task_id, "sd0@here")
    assert not isinstance(again, str)
    batching.finish(again)
    assert batching.run_to_end(batch_id) == "succeeded"
    assert batching.manifest(batch_id)[0]["attempts"] == 2


def test_a_collector_that_was_too_slow_writes_no_manifest(batching: Batching, monkeypatch: pytest.MonkeyPatch) -> None:
    batch_id = batching.submit(ONE | {"count": 2})
    batching.run_steps(4)
    batching.render()
    write = Output.write

    def slow(self: Output, file: str, data: bytes) -> None:
        write(self, file, data)
        # Meanwhile its lock has run out, and another control worker has it.
        batching.client.set("graycat:batches:feeding", "another")

    with monkeypatch.context() as patch:
        patch.setattr(Output, "write", slow)
        batching.runner.step()
    assert not (batching.folder(batch_id) / "manifest.jsonl").exists()
    batching.client.delete("graycat:batches:feeding")
    assert batching.run_to_end(batch_id) == "succeeded"
    assert len(batching.requests) == len(batching.manifest(batch_id)) == 2


def test_an_image_that_is_a_file_lies_nowhere_else(batching: Batching) -> None:
    batch_id = batching.submit(ONE | {"count": 3})
    batching.run_to_end(batch_id)
    assert list(batching.client.scan_iter("graycat:artifact*")) == []


def test_a_store_that_keeps_an_image_is_no_matter(batching: Batching, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise ArtifactsUnavailable

    monkeypatch.setattr(BrokerArtifacts, "delete", away)
    assert batching.run_to_end(batching.submit(ONE)) == "succeeded"


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (EngineLost(), True),
        (TaskTimeout(), True),
        (EngineError(422, b'{"detail": "no"}'), False),
        (EngineError(500, b'{"error": {"type": "invalid_image", "message": "no"}}'), False),
        (EngineError(500, b""), True),
    ],
)
def test_what_is_no_fault_of_the_item_s_is_tried_again(batching: Batching, error: EngineError, passing: bool) -> None:
    batch_id = batching.submit(ONE)
    batching.run_steps(4)
    attempt = batching.claim_next()
    assert attempt is not None
    batching.fail(attempt, error)
    assert batching.run_to_end(batch_id) == ("succeeded" if passing else "failed")


def test_a_disk_without_room_pauses_the_batch_and_it_goes_on_by_itself(
    batching: Batching, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutputUnavailable("there is no space left")

    monkeypatch.setattr(runner, "OUTPUT_RETRY_INTERVAL_S", 0.0)
    batch_id = batching.submit(ONE | {"count": 4})
    batching.run_steps(4)
    with monkeypatch.context() as patch:
        patch.setattr(Output, "_write", full)
        batching.render()
        batching.run_steps(4)
        view = batching.batches.get(batch_id)
        assert (view["state"], view["reason"]) == ("paused", "there is no space left")
        # What waited is taken back, and what is rendered is not lost.
        assert batching.claim_next() is None
    assert batching.run_to_end(batch_id) == "succeeded"
    assert (len(batching.requests), len(batching.files(batch_id))) == (4, 4)
    assert {line["attempts"] for line in batching.manifest(batch_id)} == {1}


def test_a_disk_without_room_at_the_start_or_at_the_end_is_waited_for(
    batching: Batching, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutputUnavailable("there is no space left")

    monkeypatch.setattr(runner, "OUTPUT_RETRY_INTERVAL_S", 0.0)
    batch_id = batching.submit(ONE)
    with monkeypatch.context() as patch:
        patch.setattr(Output, "_write", full)
        batching.run_steps(3)
        assert batching.state(batch_id) == "paused"
    with monkeypatch.context() as patch:
        patch.setattr(Output, "rewrite_manifest", full)
        for _ in range(12):
            batching.runner.step()
            batching.render()
        view = batching.batches.get(batch_id)
        assert (view["state"], view["reason"]) == ("succeeded", "there is no space left")
    assert batching.run_to_end(batch_id) == "succeeded"
