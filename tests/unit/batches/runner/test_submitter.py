from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graycat.batches.plan import Item
from graycat.batches.runner.submitter import item_task_id
from graycat.broker import keys
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import WorkerRegistry
from graycat.queue import ids as taskids
from tests.support.batching import Batching
from tests.support.helpers import Valkey
from tests.support.images import png

ONE: dict[str, Any] = {"name": "one", "items": ["a"]}


@pytest.fixture
def batching(broker: Valkey, tmp_path: Path) -> Batching:
    return Batching(broker, tmp_path / "out")


def task_of(batching: Batching, batch_id: str) -> str:
    """Return the id of the task of a batch's first item."""
    return str(batching.batches.list_items(batch_id)[0]["task_id"])


def test_an_item_is_an_ordinary_task_of_its_owner(batching: Batching) -> None:
    batch_id = batching.submit(ONE)
    batching.run_steps(4)
    record = batching.records.get(task_of(batching, batch_id))
    assert (record["kind"], record["queue"], record["owner"]) == ("sd.txt2img", "sd.batch", "tests")
    assert (record["batch"], record["priority"], record["request_id"]) == (batch_id, "batch", f"batch:{batch_id}:1")
    # Thousands of items are no business of the owner's list of tasks, nor of its limits and its WebUI's progress.
    assert batching.records.list_tasks("tests", (10**15, ""), 10) == []
    assert batching.records.unfinished("tests") == {}


def test_the_same_try_is_the_same_task_and_one_of_an_image_s() -> None:
    item = Item(7, "7", {"prompt": "a", "seed": 1})
    ids = [item_task_id(batch, item, tries) for batch in ("b", "c") for tries in (0, 1)]
    assert ids == [item_task_id(batch, item, tries) for batch in ("b", "c") for tries in (0, 1)]
    assert len(set(ids)) == 4
    assert all(taskids.is_id_for(task_id, "sd.txt2img") and len(task_id) == 32 for task_id in ids)


def test_a_queue_that_is_full_is_waited_for(broker: Valkey, tmp_path: Path) -> None:
    batching = Batching(broker, tmp_path, queue_cap=1)
    batch_id = batching.submit(ONE | {"count": 3})
    batching.run_steps(4)
    assert batching.progress(batch_id) == {"queued": 1, "waiting": 2}
    assert batching.run_to_end(batch_id) == "succeeded"


def test_images_of_images_are_made_by_img2img(batching: Batching) -> None:
    batch_id = batching.submit({"name": "x", "items": [{"prompt": "a", "init_images": [png()]}]})
    batching.run_steps(4)
    assert batching.records.get(task_of(batching, batch_id))["kind"] == "sd.img2img"


def test_a_style_that_has_come_to_set_parameters_is_waited_for(batching: Batching) -> None:
    def list_styles(extra: str) -> None:
        status = WorkerStatus(
            name="sd@here", queues=("sd", "sd.batch"), engine="x", engine_state="ready", consuming=True,
            slots=1, busy=0, props="", catalog=f"styles {extra}",
        )  # fmt: skip
        catalog = {"prompt-styles": json.dumps([{"name": "ink", "extra": extra}]).encode()}
        WorkerRegistry(batching.client).report(status, catalog)

    list_styles("Size: 4096x4096")
    batch_id = batching.submit({"name": "x", "items": ["a"], "defaults": {"styles": ["ink"]}})
    batching.run_steps(5)
    assert batching.progress(batch_id) == {"waiting": 1}
    assert "sets parameters of the engine" in batching.batches.get(batch_id)["reason"]


def test_a_checkpoint_that_some_engines_have_is_asked_of_those(batching: Batching) -> None:
    for number, models in enumerate(["sdxl.safetensors", "other.ckpt"]):
        status = WorkerStatus(
            name=f"sd{number}@here", queues=("sd", "sd.batch"), engine="x", engine_state="ready", consuming=True,
            slots=1, busy=0, props="", catalog=f"v{number}",
        )  # fmt: skip
        catalog = {"sd-models": json.dumps([{"title": models}]).encode()}
        WorkerRegistry(batching.client).report(status, catalog)

    def submit(checkpoint: str) -> str:
        defaults = {"override_settings": {"sd_model_checkpoint": checkpoint}}
        return batching.submit({"name": "x", "items": ["a"], "defaults": defaults})

    found, nowhere = submit("sdxl.safetensors"), submit("nowhere")
    batching.run_steps(5)
    assert batching.records.get(task_of(batching, found))["queue"] == "sd.batch:@sd0@here"
    assert batching.progress(nowhere) == {"waiting": 1}
    assert "no engine serves the model 'nowhere'" in batching.batches.get(nowhere)["reason"]


def test_the_images_of_a_batch_are_paid_for_with_its_plan(broker: Valkey, tmp_path: Path) -> None:
    batching = Batching(broker, tmp_path)
    batch_id = batching.submit(ONE | {"count": 2})
    (paid,) = {int(value or 0) for value in broker.client.hmget(keys.STORED, ("*", "tests"))}
    batching = Batching(broker, tmp_path, stored_bytes_per_token=paid)
    assert batching.run_to_end(batch_id) == "succeeded"
    assert broker.client.hget(keys.STORED, "*") == str(paid).encode()


def test_a_broker_that_is_full_is_waited_for(broker: Valkey, tmp_path: Path) -> None:
    batching = Batching(broker, tmp_path)
    batch_id = batching.submit(ONE | {"count": 2})
    # Above the mark of nine tenths, also if some buffers of closed connections are freed meanwhile.
    broker.client.config_set("maxmemory", int(broker.client.info("memory")["used_memory"] / 0.96))
    broker.client.hdel(keys.STORED, "*looked_ms")
    try:
        batching.run_steps(3)
        assert broker.client.llen("sd.batch") == 0
    finally:
        broker.client.config_set("maxmemory", 0)
    broker.client.hdel(keys.STORED, "*looked_ms")
    assert batching.run_to_end(batch_id) == "succeeded"
