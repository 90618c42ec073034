from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from graycat.broker.client import connect
from graycat.broker.keys import artifact_key, artifacts_key
from graycat.errors import RequestError
from graycat.settings import Settings
from graycat.storage import open_artifacts
from graycat.storage.artifacts import Artifact, ArtifactStore
from graycat.storage.errors import ArtifactBroken, ArtifactsUnavailable
from graycat.storage.file_artifacts import FileArtifacts
from graycat.storage.redis_artifacts import PIECE_BYTES, BrokerArtifacts
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, changed, eventually, in_background

#: Bytes that are no text, as an image's are.
IMAGE = bytes(range(256)) * 40
OTHER = IMAGE[::-1] + b"more"


@pytest.fixture(params=["broker", "file", "memory"])
def artifacts(request: pytest.FixtureRequest, broker: Valkey, tmp_path: Path) -> ArtifactStore:
    """Return each kind of store in turn, empty."""
    urls = {"broker": "", "file": f"file://{tmp_path}/images", "memory": f"memory://{uuid4().hex}"}
    return open_artifacts(changed(broker.settings, artifacts_url=urls[request.param]), broker.client)


def put(artifacts: ArtifactStore, number: int = 0, data: bytes = IMAGE, task_id: str = "a-task") -> Artifact:
    return artifacts.put(task_id, number, data, "image/png", "game")


def test_images_are_stored_in_the_broker_unless_a_url_is_set(client: BrokerClient, tmp_path: Path) -> None:
    assert isinstance(open_artifacts(Settings(), client), BrokerArtifacts)
    assert isinstance(open_artifacts(Settings(artifacts_url=f"file://{tmp_path}"), client), FileArtifacts)


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 10_000_000])
def test_what_was_put_comes_back(artifacts: ArtifactStore, size: int) -> None:
    data = os.urandom(size)
    expected = Artifact("a-task", 3, "image/png", size, hashlib.sha256(data).hexdigest(), "game")
    assert put(artifacts, 3, data) == expected
    assert artifacts.get("a-task", 3) == (expected, data)
    assert artifacts.describe("a-task") == [expected]


def test_a_task_s_images_are_described_by_number(artifacts: ArtifactStore) -> None:
    stored = [put(artifacts, number, b"%d" % number) for number in (10, 2, 0)]
    put(artifacts, task_id="another-task")
    assert artifacts.describe("a-task") == stored[::-1]


def test_an_image_that_was_not_put_is_not_found(artifacts: ArtifactStore) -> None:
    put(artifacts)
    assert (artifacts.get("a-task", 1), artifacts.get("no-task", 0), artifacts.describe("no-task")) == (None, None, [])


def test_a_later_attempt_s_image_replaces_the_first(artifacts: ArtifactStore) -> None:
    for data in (IMAGE, OTHER, b"", IMAGE):
        artifact = put(artifacts, data=data)
        assert artifacts.get("a-task", 0) == (artifact, data)
        assert artifacts.describe("a-task") == [artifact]


@pytest.mark.parametrize("changes", [{"owner": "tools"}, {"content_type": "image/webp"}])
def test_what_is_known_of_the_same_bytes_may_change(artifacts: ArtifactStore, changes: dict[str, str]) -> None:
    put(artifacts)
    options = {"content_type": "image/png", "owner": "game"} | changes
    artifact = artifacts.put("a-task", 0, IMAGE, **options)
    assert artifacts.describe("a-task") == [artifact]


def test_delete_takes_all_of_a_task_and_no_more(artifacts: ArtifactStore) -> None:
    for number in range(3):
        put(artifacts, number)
    other = put(artifacts, task_id="a-task-2")
    artifacts.delete("a-task")
    artifacts.delete("no-task")
    assert (artifacts.get("a-task", 0), artifacts.describe("a-task")) == (None, [])
    assert artifacts.get("a-task-2", 0) == (other, IMAGE)


@pytest.mark.parametrize(
    "task_id", ["9423d7817d2f424aaacb24624b026dd8", ".", "..", "...", "-", ".hidden", "CON", "a" * 64, "task-1.json"]
)
def test_a_client_may_choose_its_task_s_id(artifacts: ArtifactStore, task_id: str) -> None:
    artifact = put(artifacts, task_id=task_id)
    assert artifacts.get(task_id, 0) == (artifact, IMAGE)
    artifacts.delete(task_id)
    assert artifacts.describe(task_id) == []


@pytest.mark.parametrize(
    "task_id", ["", "../x", "a/b", "/etc", "a\\b", "a b", "a\n", "a\0", "*", "a:b", "ä", "a" * 65, "%2e%2e", "s3://x"]
)
def test_an_id_that_could_lead_elsewhere_is_refused(artifacts: ArtifactStore, task_id: str) -> None:
    calls: list[Any] = [
        lambda: put(artifacts, task_id=task_id),
        lambda: artifacts.get(task_id, 0),
        lambda: artifacts.describe(task_id),
        lambda: artifacts.delete(task_id),
    ]
    for call in calls:
        with pytest.raises(RequestError, match="task id"):
            call()


@pytest.mark.parametrize("number", [-1, 10_000])
def test_a_number_counts_images(artifacts: ArtifactStore, number: int) -> None:
    with pytest.raises(RequestError, match="number"):
        put(artifacts, number)
    with pytest.raises(RequestError, match="number"):
        artifacts.get("a-task", number)


def test_a_reader_never_sees_half_an_image(artifacts: ArtifactStore) -> None:
    """Replace an image over and over while it is read: each reading is one of the two, whole."""
    versions = {data: put(artifacts, data=data) for data in (b"a" * 3_000_000, b"b" * 1_000_000)}
    writer = in_background(lambda: [put(artifacts, data=data) for _ in range(5) for data in versions])
    while writer.is_alive():
        found = artifacts.get("a-task", 0)
        assert found is not None
        assert found[0] == versions[found[1]]
    writer.join()


# In the broker


def used_memory(client: BrokerClient) -> int:
    client.memory_purge()
    return int(client.info("memory")["used_memory"])


def test_after_its_lifetime_an_image_leaves_nothing_in_the_broker(client: BrokerClient) -> None:
    artifacts = BrokerArtifacts(client, ttl_s=0.2)
    put(artifacts)
    eventually(lambda: client.dbsize() == 0)
    before = used_memory(client)
    for number in range(3):
        put(artifacts, number, os.urandom(10_000_000))
    assert used_memory(client) - before > 10_000_000
    eventually(lambda: client.dbsize() == 0)
    eventually(lambda: abs(used_memory(client) - before) < 1_000_000)
    assert (artifacts.get("a-task", 0), artifacts.describe("a-task")) == (None, [])


def test_an_image_costs_the_broker_its_size(client: BrokerClient) -> None:
    before = used_memory(client)
    put(BrokerArtifacts(client, 60.0), data=os.urandom(10_000_000))
    eventually(lambda: used_memory(client) - before < 11_500_000)


def test_every_key_ends_and_is_graycat_s_own(client: BrokerClient) -> None:
    artifacts = BrokerArtifacts(client, ttl_s=60.0)
    for number in (0, 1, 1):
        put(artifacts, number)
    keys = {key.decode(): client.pttl(key) for key in client.scan_iter()}
    assert set(keys) == {artifacts_key("a-task"), *(artifact_key("a-task", n) for n in (0, 1))}
    assert all(50_000 < ttl_ms <= 60_000 for ttl_ms in keys.values())


def test_the_same_bytes_again_change_nothing_not_even_the_lifetime(client: BrokerClient) -> None:
    put(BrokerArtifacts(client, ttl_s=60.0))
    put(BrokerArtifacts(client, ttl_s=3600.0))
    assert client.pttl(artifact_key("a-task", 0)) <= 60_000


def test_an_image_whose_bytes_are_gone_is_not_described_and_is_stored_again(client: BrokerClient) -> None:
    artifacts = BrokerArtifacts(client, ttl_s=60.0)
    put(artifacts)
    client.delete(artifact_key("a-task", 0))
    assert (artifacts.describe("a-task"), artifacts.get("a-task", 0)) == ([], None)
    artifact = put(artifacts)
    assert artifacts.get("a-task", 0) == (artifact, IMAGE)


def test_damaged_bytes_are_no_image(client: BrokerClient) -> None:
    artifacts = BrokerArtifacts(client, ttl_s=60.0)
    put(artifacts)
    client.setrange(artifact_key("a-task", 0), 5, b"damage")
    with pytest.raises(ArtifactBroken):
        artifacts.get("a-task", 0)


def test_an_image_is_sent_in_pieces_so_that_each_has_the_whole_timeout(
    broker: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(broker.settings)
    connection = client.connection_pool.get_connection()
    sent: list[int] = []
    original = connection.send_packed_command

    def send(command: Any, *args: Any, **options: Any) -> Any:
        sent.extend(map(len, [command] if isinstance(command, bytes) else command))
        return original(command, *args, **options)

    monkeypatch.setattr(connection, "send_packed_command", send)
    client.connection_pool.release(connection)
    put(BrokerArtifacts(client, 60.0), data=os.urandom(3_000_000))
    assert sum(sent) > 3_000_000
    assert max(sent) < 2 * PIECE_BYTES
    client.close()


def test_the_broker_sweeps_by_itself(client: BrokerClient) -> None:
    artifacts = BrokerArtifacts(client, ttl_s=60.0)
    put(artifacts)
    assert artifacts.sweep(4e9) == 0
    assert client.dbsize() == 2


def test_a_broker_that_is_down_is_reported(no_broker: Settings) -> None:
    artifacts = open_artifacts(no_broker, connect(no_broker))
    for call in (lambda: put(artifacts), lambda: artifacts.get("a", 0), lambda: artifacts.describe("a")):
        with pytest.raises(ArtifactsUnavailable) as caught:
            call()
        assert caught.value.retry_after_s


def test_a_broker_that_is_full_is_reported(mortal_broker: Valkey) -> None:
    artifacts = BrokerArtifacts(mortal_broker.client, ttl_s=60.0)
    mortal_broker.client.config_set("maxmemory", "1mb")
    with pytest.raises(ArtifactsUnavailable):
        put(artifacts, data=os.urandom(2_000_000))
    mortal_broker.client.config_set("maxmemory", "0")
    assert artifacts.get("a-task", 0) is None
    assert mortal_broker.client.dbsize() == 0
