"""What tasks hold in the broker is bounded, by player, by API token and in all."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from graycat.broker import keys
from graycat.errors import BrokerFull, StoredBytesExceeded
from graycat.queue import stored
from graycat.queue.records import TaskRecords
from graycat.queue.stored import OVERHEAD_BYTES, StoredBytes
from graycat.settings import Settings
from tests.support.broker import BrokerClient
from tests.support.helpers import accepted, changed, claimed, message_of, new_task

SHOWN = {"priority": "interactive"}


@pytest.fixture
def limited(client: BrokerClient, settings: Settings) -> Callable[..., TaskRecords]:
    """Return records with limits, each for so many tasks whose bodies have 1000 bytes."""

    def build(**limits: int) -> TaskRecords:
        sizes = {name: count * (1000 + OVERHEAD_BYTES) for name, count in limits.items()}
        return TaskRecords(client, changed(settings, **sizes))

    return build


@pytest.fixture
def accounts(client: BrokerClient) -> StoredBytes:
    return StoredBytes(client)


def submit(records: TaskRecords, owner: str = "game", size: int = 1000, **changes: object) -> str:
    return accepted(records, owner=owner, body=b"x" * size, **changes)


def held(client: BrokerClient) -> dict[str, int]:
    """Return the accounts, without what is known of the broker's memory."""
    accounts = {}
    for name, value in client.hgetall(keys.STORED).items():
        if not name.startswith(b"*") or name == b"*":
            accounts[name.decode()] = int(value)
    return accounts


def test_a_task_is_charged_to_its_player_its_token_and_all(records: TaskRecords, client: BrokerClient) -> None:
    submit(records, "game/alice")
    submit(records, "game")
    submit(records, "tool", size=0)
    one = 1000 + OVERHEAD_BYTES
    assert held(client) == {
        "game/alice": one,
        "game": 2 * one,
        "tool": OVERHEAD_BYTES,
        "*": 2 * one + OVERHEAD_BYTES,
    }


def test_a_token_that_holds_too_much_is_refused_and_others_are_not(limited, client: BrokerClient) -> None:
    records = limited(stored_bytes_per_token=2)
    submit(records)
    submit(records)
    before = set(client.keys())
    with pytest.raises(StoredBytesExceeded, match="this API token may have 4048 bytes together, nothing was queued"):
        submit(records)
    assert set(client.keys()) == before
    assert client.llen("llm") == 1
    submit(records, "another")


def test_a_player_s_limit_is_its_own_and_the_token_s_is_that_of_all_its_players(limited) -> None:
    records = limited(stored_bytes_per_player=1, stored_bytes_per_token=2)
    submit(records, "game/alice")
    with pytest.raises(StoredBytesExceeded, match="of this player may have"):
        submit(records, "game/alice")
    submit(records, "game/bob")
    with pytest.raises(StoredBytesExceeded, match="of all players of this API token may have"):
        submit(records, "game/carol")
    # The token itself is no player.
    with pytest.raises(StoredBytesExceeded, match="of this API token may have"):
        submit(records, "game")
    submit(records, "another/alice")


def test_all_together_have_a_limit(limited) -> None:
    records = limited(stored_bytes=2)
    submit(records, "one")
    submit(records, "two")
    with pytest.raises(BrokerFull, match="no room for more tasks, nothing was queued"):
        submit(records, "three")


def test_zero_is_no_limit(limited) -> None:
    records = limited(stored_bytes_per_player=0, stored_bytes_per_token=0, stored_bytes=0)
    for _ in range(3):
        submit(records, "game/alice", size=1_000_000)


@pytest.mark.parametrize("end", ["cancel", "succeed", "the record is gone"])
def test_what_an_ended_task_held_is_free_at_once(limited, client: BrokerClient, end: str) -> None:
    records = limited(stored_bytes_per_token=1)
    for _ in range(3):
        task_id = submit(records)
        if end == "cancel":
            records.cancel(task_id)
        elif end == "succeed":
            records.succeed(claimed(records, task_id), 200, b"{}")
        else:
            client.delete(keys.record_key(task_id))
    assert held(client) == {"game": 1000 + OVERHEAD_BYTES, "*": 1000 + OVERHEAD_BYTES}


def test_what_is_kept_for_a_retry_is_still_held(limited, accounts: StoredBytes) -> None:
    records = limited(stored_bytes_per_token=1)
    records.cancel(submit(records, shown=SHOWN))
    accounts.settle()
    with pytest.raises(StoredBytesExceeded):
        submit(records)


def test_the_control_worker_takes_back_what_nobody_asks_for(records, client, accounts, monkeypatch) -> None:
    monkeypatch.setattr(stored, "SETTLED_AT_ONCE", 10)
    kept = [submit(records, owner=f"kept-{number}") for number in range(50)]
    for number in range(50):
        records.cancel(submit(records, owner=f"gone-{number}"))
    # Each of them is looked at within some rounds, however many others there are.
    for _ in range(stored.SETTLE_ROUNDS + 1):
        accounts.settle()
    assert set(held(client)) == {"*", *(f"kept-{number}" for number in range(50))}
    assert accounts.total() == len(kept) * (1000 + OVERHEAD_BYTES)


def test_a_task_that_exists_is_charged_once(records: TaskRecords, client: BrokerClient) -> None:
    task = new_task(owner="game")
    assert [records.create(task, message_of(task.id)) for _ in range(3)] == [True, False, False]
    assert held(client)["game"] == len(task.body) + OVERHEAD_BYTES


def test_a_name_that_is_used_anew_before_its_last_task_is_settled_is_charged_once(records, client) -> None:
    task = new_task(owner="game")
    for _ in range(2):
        assert records.create(task, message_of(task.id))
        assert held(client)["game"] == held(client)["*"] == len(task.body) + OVERHEAD_BYTES
        client.delete(keys.record_key(task.id))


def test_a_recount_heals_what_another_program_has_written(records, client, accounts) -> None:
    submit(records, "game/alice")
    right = held(client)
    client.hset(keys.STORED, mapping={"game": 10**12, "*": "many", "nobody": 7})
    client.hdel(keys.STORED, "game/alice")
    assert accounts.recount() == 4
    assert held(client) == right
    assert accounts.recount() == 0


def test_too_many_charges_are_not_added_up_at_once(records, accounts, monkeypatch) -> None:
    monkeypatch.setattr(stored, "MAX_RECOUNTED", 1)
    submit(records)
    assert accounts.recount() == 0
    submit(records)
    assert accounts.recount() == -1


@pytest.mark.parametrize("rubbish", ["many", "-5", "1e3", "9" * 30, ""])
def test_rubbish_in_an_account_refuses_nobody(records, client, accounts, rubbish: str) -> None:
    client.hset(keys.STORED, mapping={"game": rubbish, "*": rubbish, "*looked_ms": rubbish, "*full": rubbish})
    client.zadd(keys.STORED_CHARGES, {rubbish: 0, f"5 x {rubbish}": 0, "7": 1})
    submit(records)
    accounts.settle()
    accounts.recount()
    assert held(client)["game"] == 1000 + OVERHEAD_BYTES


def test_a_broker_that_is_nearly_full_takes_no_task(records, client, monkeypatch) -> None:
    used = client.info("memory")["used_memory"]
    try:
        client.config_set("maxmemory", int(used / 0.9))
        client.hdel(keys.STORED, "*looked_ms")
        with pytest.raises(BrokerFull):
            submit(records)
        assert client.keys("graycat:task:*") == []
        # It is asked once a second.
        client.config_set("maxmemory", used * 100)
        with pytest.raises(BrokerFull):
            submit(records)
        client.hset(keys.STORED, "*looked_ms", 1)
        submit(records)
    finally:
        client.config_set("maxmemory", 0)
