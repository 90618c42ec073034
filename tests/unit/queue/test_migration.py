"""What a release before the families had keys of their own has left in the broker."""

from __future__ import annotations

import json
import time

from graycat.broker import keys
from graycat.broker.quarantine import Quarantine
from graycat.fleet.workers import WorkerRegistry
from graycat.queue.migration import OLD_KEYS, Migration
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from graycat.status.snapshot import SnapshotReader
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, accepted, claimed


def make_old(client: BrokerClient, owner: str, *queues: str) -> None:
    """Rename the keys of one owner's tasks to what they were called."""
    for family in ("llm", "sd"):
        pairs = [
            (keys.live_key(family), "graycat:live"),
            (keys.owned_key(family, owner), f"graycat:live:{owner}"),
            (keys.players_key(family, owner.partition("/")[0]), f"graycat:live-players:{owner.partition('/')[0]}"),
        ]
        for new, old in pairs:
            if client.exists(new):
                client.zunionstore(old, [old, new])
                client.delete(new)
    client.sadd("graycat:turns", *queues)
    client.delete(keys.turns_key("llm"), keys.turns_key("sd"))
    for queue in queues:
        client.rename(keys.turn_key(queue, owner), f"graycat:turn:{owner}\0{queue}")
        if client.exists(keys.parked_key(queue, owner)):
            client.rename(keys.parked_key(queue, owner), f"graycat:aside:{owner}\0{queue}")


def test_tasks_that_wait_in_a_running_broker_are_not_lost(broker: Valkey, settings: Settings) -> None:
    client, records = broker.client, TaskRecords(broker.client, settings)
    owner = "game/anna"
    tasks = [accepted(records, owner=owner) for _ in range(3)]
    image = accepted(records, kind="sd.txt2img", queue="sd:@sd@box", owner=owner)
    make_old(client, owner, "llm", "sd:@sd@box")
    assert records.unfinished(owner) == {}
    migration = Migration(client)
    migration.step()
    assert set(records.unfinished(owner)) == {*tasks, image}
    assert client.zcard(keys.players_key("llm", "game")) == 3
    assert client.smembers(keys.turns_key("sd")) == {b"sd:@sd@box"}
    # Its message is in the queue; those behind it follow one by one.
    for task in tasks:
        assert json.loads(client.rpop("llm"))["headers"]["id"] == task
        assert records.succeed(claimed(records, task), 200, b"{}")
    assert client.llen("llm") == 0
    assert records.succeed(claimed(records, image), 200, b"{}")
    assert [key for key in client.keys("graycat:*") if b"turn" in key or b"live" in key or b"aside:" in key] == []
    migration.step()


def test_tasks_that_wait_are_not_lost_if_a_worker_looks_for_turns_first(broker: Valkey, settings: Settings) -> None:
    client, records = broker.client, TaskRecords(broker.client, settings)
    tasks = [accepted(records, owner="game/anna") for _ in range(3)]
    make_old(client, "game/anna", "llm")
    # What workers of this release do at their start: they take what is in the queue, and pass turns on.
    assert json.loads(client.rpop("llm"))["headers"]["id"] == tasks[0]
    assert records.succeed(claimed(records, tasks[0]), 200, b"{}")
    records.repair_turns(["llm"])
    Migration(client).step()
    for task in tasks[1:]:
        records.repair_turns(["llm"])
        assert json.loads(client.rpop("llm"))["headers"]["id"] == task
        assert records.succeed(claimed(records, task), 200, b"{}")
    assert [key for key in client.keys("graycat:*") if b"turn" in key or b"live" in key or b"aside:" in key] == []


def test_turns_that_another_program_has_written_over_keep_no_task_from_being_moved(
    broker: Valkey, settings: Settings
) -> None:
    client, records = broker.client, TaskRecords(broker.client, settings)
    task = accepted(records, owner="game")
    make_old(client, "game", "llm")
    client.set("graycat:owners:llm", "another program's")
    Migration(client).step()
    assert set(records.unfinished("game")) == {task}


def test_what_operators_look_at_is_moved(broker: Valkey, settings: Settings) -> None:
    client = broker.client
    client.hset("graycat:means", mapping={"llm.completion": 1000, "sd.txt2img": 9000})
    failure = {"task": "t", "kind": "sd.txt2img", "worker": "", "state": "failed", "status": 502, "type": ""}
    client.xadd("graycat:failures", failure)
    client.lpush("graycat:quarantine", json.dumps({"at_ms": 1, "where": "queue", "reason": "E", "size": 3}))
    client.zadd("graycat:fleet", dict.fromkeys(("llm@a", "control@a", "sd@a"), time.time()))
    Migration(client).step()
    records = TaskRecords(client, settings)
    assert (records.mean_duration_ms("llm.completion"), records.mean_duration_ms("sd.txt2img")) == (1000, 9000)
    assert [item.reason for item in Quarantine(client).items()] == ["E"]
    snapshot = SnapshotReader(settings).read()
    assert [found.task_id for found in snapshot.failures] == ["t"]
    assert WorkerRegistry(client).alive_and_missing()[1] == ["control@a", "llm@a", "sd@a"]
    assert not client.exists(*OLD_KEYS)


def test_an_old_key_of_another_type_is_dropped(broker: Valkey) -> None:
    for key in OLD_KEYS:
        broker.client.set(key, "another program's")
    Migration(broker.client).step()
    assert not broker.client.exists(*OLD_KEYS)


def test_a_process_of_the_old_release_goes_on_writing(broker: Valkey, settings: Settings) -> None:
    client, records = broker.client, TaskRecords(broker.client, settings)
    task = accepted(records)
    client.rename(keys.live_key("llm"), "graycat:live")
    later = accepted(records)
    Migration(client).step()
    assert {name.decode() for name in client.zrange(keys.live_key("llm"), 0, -1)} == {task, later}
    claimed(records, task)
