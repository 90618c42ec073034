"""The client of a server below a path: it keeps to the address that it was given, whatever the server's links say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from graycat.client import Client
from graycat.queue.records import TaskRecords
from graycat.storage import open_artifacts
from graycat.web import create_app
from tests.support.batching import TWO, Batching
from tests.support.helpers import SECRET, Valkey, changed
from tests.support.live import LiveServer, serving
from tests.support.webuis import picture

BASE = "https://play.example/gpu"


@pytest.fixture
def batching(broker: Valkey, tmp_path: Path) -> Batching:
    return Batching(broker, tmp_path / "out")


@pytest.fixture
def server(broker: Valkey, batching: Batching) -> Iterator[LiveServer]:
    with serving(create_app(changed(broker.settings, public_url=BASE, batch_dir=str(batching.out)))) as server:
        yield server


def test_tasks_images_events_and_batches_are_found_below_a_prefix(
    server: LiveServer, batching: Batching, records: TaskRecords, take, tmp_path: Path
) -> None:
    with Client(f"{server.url}/gpu/", SECRET, patience_s=5) as client:
        task = client.submit("sd.txt2img", {"prompt": "a fox"})
        attempt = take("sd")
        artifacts = open_artifacts(batching.settings, batching.broker.client)
        artifacts.put(attempt.task_id, 0, picture("red"), "image/png", attempt.owner)
        records.succeed(attempt, 200, json.dumps({"images": [{"artifact": 0}], "info": "{}"}).encode())
        assert [image.data for image in task.images()] == [picture("red")]
        assert [event.kind for event in task.events()] == ["started", "result"]
        batch = client.batches.submit(TWO, "key")
        batching.run_to_end(batch.id)
        assert batch.export(tmp_path / "here") == (2, 2)
        assert batch.gallery(3600).startswith(f"{BASE}/batches/{batch.id}/gallery?")
    assert [asked for asked in server.requests if asked["REQUEST_URI"][:5] != "/gpu/"] == []
