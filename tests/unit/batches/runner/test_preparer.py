"""A batch whose folder is not empty: what is there is verified, and only what is missing is made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graycat.batches.output import BATCH_INFO, MANIFEST
from tests.support.batching import TWO, Batching
from tests.support.helpers import Valkey


@pytest.fixture
def batching(broker: Valkey, tmp_path: Path) -> Batching:
    return Batching(broker, tmp_path / "out")


@pytest.fixture
def done(batching: Batching) -> str:
    """Return the id of a batch of four images that has ended."""
    batch_id = batching.batches.submit(TWO | {"count": 2}, "tests", "key")[0]
    assert batching.run_to_end(batch_id) == "succeeded"
    batching.requests.clear()
    return batch_id


def test_the_folder_says_what_made_it_and_keeps_no_secret(batching: Batching) -> None:
    secret = "whsec_" + "a" * 40
    batch_id = batching.submit(webhook={"url": "https://a.example/", "secret": secret})
    batching.run_steps(3)
    text = (batching.folder(batch_id) / BATCH_INFO).read_text()
    assert secret not in text
    assert json.loads(text)["spec"]["items"] == TWO["items"]


def test_a_batch_that_is_resumed_makes_what_is_missing_or_damaged_and_nothing_else(
    batching: Batching, done: str
) -> None:
    files, before = batching.files(done), batching.manifest(done)
    files[0].unlink()
    files[2].write_bytes(files[2].read_bytes()[:-1] + b"!")
    kept = files[1].stat().st_mtime_ns
    assert batching.batches.resume(done)["state"] == "queued"
    assert batching.run_to_end(done) == "succeeded"
    assert len(batching.requests) == 2
    assert [path.name for path in batching.files(done)] == [path.name for path in files]
    assert files[1].stat().st_mtime_ns == kept
    after = batching.manifest(done)
    assert [line["sha256"] for line in after] == [line["sha256"] for line in before]
    assert [line["attempts"] for line in after] == [2, 1, 2, 1]


def test_a_broker_that_has_forgotten_everything_costs_nothing(batching: Batching, done: str) -> None:
    before = batching.manifest(done)
    batching.files(done)[3].unlink()
    batching.client.flushall()
    again, new = batching.batches.submit(TWO | {"count": 2}, "tests", "key")
    assert (again, new) == (done, True)
    assert batching.run_to_end(again) == "succeeded"
    assert len(batching.requests) == 1
    # Seeds that were drawn once are drawn no more.
    assert [(line["seed"], line["sha256"]) for line in batching.manifest(again)] == [
        (line["seed"], line["sha256"]) for line in before
    ]


def test_images_of_a_release_that_sent_fields_for_file_names_to_engines_are_kept(
    batching: Batching, done: str, broker: Valkey, tmp_path: Path
) -> None:
    lines = batching.manifest(done)
    for line in lines:
        line["request"]["hero"] = "gimli"
    path = next(batching.folder(done).rglob("manifest.jsonl"))
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    batching.client.flushall()
    # Another process: this one remembers the manifest.
    other = Batching(broker, tmp_path / "out")
    again, _ = other.batches.submit(TWO | {"count": 2}, "tests", "key")
    assert other.run_to_end(again) == "succeeded"
    assert other.requests == []


def test_half_a_batch_that_the_broker_has_forgotten_goes_on(batching: Batching) -> None:
    submit = {"document": TWO | {"count": 2}, "owner": "tests", "key": "key"}
    batch_id = batching.batches.submit(**submit)[0]  # type: ignore[arg-type]
    batching.run_steps(3)
    for _ in range(2):
        batching.render()
        batching.run_steps(2)
    batching.client.flushall()
    batching.batches.submit(**submit)  # type: ignore[arg-type]
    assert batching.run_to_end(batch_id) == "succeeded"
    assert len(batching.requests) == len(batching.manifest(batch_id)) == len(batching.files(batch_id)) == 4


def test_a_manifest_that_is_gone_is_written_anew(batching: Batching, done: str) -> None:
    before = batching.manifest(done)
    (batching.folder(done) / MANIFEST).unlink()
    batching.batches.resume(done)
    assert batching.run_to_end(done) == "succeeded"
    assert (batching.requests, batching.manifest(done)) == ([], before)


def test_another_batch_of_the_same_spec_and_folder_adopts_what_is_there(batching: Batching) -> None:
    document = TWO | {"output": {"folder": "shared"}}
    first = batching.submit(document)
    batching.run_to_end(first)
    second = batching.submit(document | {"deadline": "6h"})
    assert batching.run_to_end(second) == "succeeded"
    assert (len(batching.requests), batching.progress(second)) == (2, {"done": 2})
    assert batching.folder(first) == batching.folder(second)


def test_a_folder_of_another_spec_is_left_alone(batching: Batching) -> None:
    batching.run_to_end(batching.submit(output={"folder": "shared"}))
    other = batching.submit({"name": "other", "items": ["b"], "output": {"folder": "shared"}})
    batching.run_steps()
    view = batching.batches.get(other)
    assert (view["state"], "holds another batch" in view["reason"]) == ("failed", True)
    assert len(batching.requests) == 2


def test_two_batches_write_to_one_folder_one_after_the_other(batching: Batching) -> None:
    document = TWO | {"output": {"folder": "shared"}}
    first, second = batching.submit(document), batching.submit(document)
    batching.run_steps(3)
    states = {batching.state(first), batching.state(second)}
    assert states == {"queued", "running"}
    waiting = next(one for one in (first, second) if batching.state(one) == "queued")
    assert "waits for the batch" in batching.batches.get(waiting)["reason"]
    assert {batching.run_to_end(first), batching.run_to_end(second)} == {"succeeded"}
    assert len(batching.requests) == 2


def test_the_folder_s_name_is_filled_in(batching: Batching) -> None:
    folder = {"folder": "{name}/{date}-{key}"}
    batch_id = batching.batches.submit(TWO | {"output": folder, "timezone": "Asia/Tokyo"}, "tests", "night-1")[0]
    batching.run_steps(2)
    found = batching.batches.get(batch_id)["folder"]
    assert found.startswith("tests/two/2")
    assert found.endswith("-night-1")


def test_many_files_are_verified_in_slices(batching: Batching, done: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graycat.batches.runner.preparer.VERIFY_SLICE_S", -1.0)
    batching.batches.resume(done)
    batching.run_steps(2)
    assert batching.state(done) == "queued"
    monkeypatch.undo()
    assert batching.run_to_end(done) == "succeeded"
    assert batching.requests == []
