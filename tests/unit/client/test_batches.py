"""The client's batches, on the web application behind a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from graycat.batches.output import Outputs
from graycat.client import Client
from graycat.client import batches as module
from graycat.client.batches import Batch
from graycat.client.errors import DamagedImage, InvalidArgument, InvalidBatch
from graycat.web.services import services_of
from tests.support.batching import TWO, Batching
from tests.support.helpers import SECRET, Valkey


@pytest.fixture
def batching(broker: Valkey, tmp_path: Path, shared_app: Flask, monkeypatch: pytest.MonkeyPatch) -> Batching:
    found = Batching(broker, tmp_path / "out")
    monkeypatch.setattr(services_of(shared_app), "outputs", Outputs(found.settings))
    return found


@pytest.fixture
def client(live, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(module, "POLL_INTERVAL_S", 0.01)
    with Client(live.url, SECRET, patience_s=5) as client:
        yield client


def test_a_batch_from_its_spec_to_its_files(client: Client, batching: Batching, tmp_path: Path) -> None:
    batch = client.batches.submit(TWO, "key")
    assert client.batches.submit(TWO, "key").id == batch.id
    assert (batch.state, batch.done) == ("queued", False)
    batching.run_to_end(batch.id)
    seen: list[Batch] = []
    assert batch.wait(seen.append).done
    assert len(seen) == 1
    assert [item["number"] for item in batch.items()] == [1, 2]
    assert list(batch.items("failed")) == []
    assert batch.export(tmp_path / "here") == (2, 2)
    assert sorted(path.name for path in (tmp_path / "here").glob("*.png")) == [p.name for p in batching.files(batch.id)]
    (tmp_path / "here" / batch.manifest()[0]["file"]).write_bytes(b"damaged")
    assert batch.export(tmp_path / "here") == (1, 2)


def test_a_submit_whose_answer_was_lost_counts_once(client: Client, live, batching: Batching) -> None:
    live.cuts = [0]
    client.batches.submit(TWO, "key")
    assert len(live.asked("POST", "/batches")) == 2
    assert len(list(client.batches.all())) == 1


def test_a_batch_is_paused_resumed_cancelled_and_retried(client: Client, batching: Batching) -> None:
    batch = client.batches.submit(TWO, "key")
    assert batch.pause().state == "paused"
    assert batch.resume().state == "queued"
    assert batch.cancel().state == "cancelled"
    assert batch.retry_failed().state == client.batches.get(batch.id).state == "queued"


def test_pages_are_read_to_their_end(client: Client, batching: Batching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_SIZE", 2)
    ids = {client.batches.submit(TWO, f"key-{n}").id for n in range(4)}
    found = [batch.id for batch in client.batches.all()]
    assert (len(found), set(found)) == (4, ids)


def test_a_forecast_makes_nothing(client: Client, batching: Batching) -> None:
    assert client.batches.forecast(TWO)["total"] == 2
    assert list(client.batches.all()) == []


def test_an_invalid_batch_is_refused_with_its_problems(client: Client, batching: Batching) -> None:
    with pytest.raises(InvalidBatch, match="name: is required"):
        client.batches.submit({"items": ["a"]}, "key")
    for spec in ({"name": object()}, {"name": float("nan")}):
        with pytest.raises(InvalidArgument):
            client.batches.submit(spec, "key")
    with pytest.raises(InvalidArgument):
        client.batches.get("../tokens")


def test_an_image_with_another_digest_is_damaged(client: Client, batching: Batching) -> None:
    batch = client.batches.submit(TWO, "key")
    batching.run_to_end(batch.id)
    with pytest.raises(DamagedImage):
        batch.image(1, "0" * 64)
