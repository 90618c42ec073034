from __future__ import annotations

from graycat.queue.records import TaskRecords
from graycat.status import memory_scan
from graycat.status.memory_scan import MemoryScan, MemoryUse
from graycat.storage.redis_artifacts import BrokerArtifacts
from tests.support.broker import BrokerClient
from tests.support.helpers import started


def test_an_empty_broker_holds_nothing(client: BrokerClient) -> None:
    assert MemoryScan(client).step() == MemoryUse(0, 0)


def test_streams_and_images_are_counted_and_nothing_else(client: BrokerClient, records: TaskRecords) -> None:
    records.publish(started(records), 1, [b"x" * 10_000])
    client.set("graycat:another", "x" * 500_000)
    client.set("elsewhere", "x" * 500_000)
    assert 10_000 <= MemoryScan(client).step().events < 100_000
    BrokerArtifacts(client, 60.0).put("a-task", 0, b"x" * 100_000, "image/png", "tests")
    held = MemoryScan(client).step()
    assert 100_000 <= held.artifacts < 300_000
    assert held.events < 100_000


def test_a_large_broker_is_counted_bit_by_bit(client: BrokerClient, monkeypatch) -> None:
    monkeypatch.setattr(memory_scan, "KEYS_PER_STEP", 20)
    for number in range(300):
        client.set(f"graycat:artifact:task:{number}", "x" * 1000)
    counted = MemoryScan(client)
    first = counted.step().artifacts
    assert 0 < first < 200_000
    later = [counted.step().artifacts for _ in range(60)]
    # What is told stays whole while the next round is under way.
    assert len(set(later[20:])) == 1
    assert later[-1] >= 300_000
