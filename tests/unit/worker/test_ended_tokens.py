"""What an API token has left in queues and on workers ends with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from graycat.auth.limits import UNLIMITED
from graycat.auth.minted import Grant, MintedTokens
from graycat.auth.signing import SigningKey
from graycat.batches.records import BatchRecords
from graycat.broker import keys
from graycat.queue.records import TaskRecords
from graycat.worker.ended_tokens import DELAY_S, KEPT_S, MAX_TASKS, REPEAT_S, EndedTokens
from tests.support.broker import BrokerClient
from tests.support.clocks import Clock
from tests.support.helpers import Valkey, accepted, changed, claimed
from tests.support.workers import celery_app

SPEC = {"name": "night", "items": ["a cat"]}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(client: BrokerClient, clock: Clock) -> MintedTokens:
    return MintedTokens(client, SigningKey("a key of the tests"), now=clock, clock=clock)


@pytest.fixture
def duty_with(broker: Valkey, clock: Clock) -> Callable[..., EndedTokens]:
    """Return how to make the duty with some settings changed."""
    app = celery_app(broker.settings.home)
    return lambda **changes: EndedTokens(broker.client, changed(broker.settings, **changes), app, clock)


@pytest.fixture
def duty(duty_with) -> EndedTokens:
    made: EndedTokens = duty_with()
    return made


def state_of(records: TaskRecords, task_id: str) -> str:
    record = records.get(task_id)
    return record["state"] + (" and asked to stop" if record.get("cancel") else "")


def test_queued_and_running_tasks_of_a_revoked_token_and_its_players_end(
    duty: EndedTokens, tokens: MintedTokens, clock: Clock, records: TaskRecords, client: BrokerClient
) -> None:
    tokens.mint(Grant("game"))
    running = accepted(records, owner="game", shown={})
    claimed(records, running)
    queued = [accepted(records, owner=owner, shown={}) for owner in ("game", "game/42", "game/43")]
    others = [accepted(records, owner=owner, shown={}) for owner in ("gam", "game2", "other/game")]
    tokens.revoke("game")
    assert duty.step() == 0
    clock.forward(DELAY_S)
    assert duty.step() == 4
    assert state_of(records, running) == "running and asked to stop"
    assert {state_of(records, task_id) for task_id in queued} == {"cancelled"}
    assert {state_of(records, task_id) for task_id in others} == {"queued"}
    assert duty.step() == 0
    # A request that was let in before submits one now.
    late = accepted(records, owner="game/42", shown={})
    clock.forward(REPEAT_S - 1)
    assert duty.step() == 1
    assert state_of(records, late) == "cancelled"
    clock.forward(2)
    duty.step()
    # Much later nobody looks for its tasks any more; its schedules still submit nothing.
    accepted(records, owner="game", shown={})
    assert duty.step() == 0
    assert client.zcard(keys.TOKEN_ENDS) == 1
    clock.forward(KEPT_S)
    duty.step()
    assert client.zcard(keys.TOKEN_ENDS) == 0


def test_what_ended_while_no_control_worker_ran_is_ended_by_the_next(
    duty_with, tokens: MintedTokens, clock: Clock, records: TaskRecords
) -> None:
    tokens.mint(Grant("game"))
    task_id = accepted(records, owner="game", shown={})
    tokens.revoke("game")
    clock.forward(10 * REPEAT_S)
    assert duty_with().step() == 1
    assert state_of(records, task_id) == "cancelled"


def test_one_that_expires_is_ended_at_that_time(
    duty: EndedTokens, tokens: MintedTokens, clock: Clock, records: TaskRecords
) -> None:
    tokens.mint(Grant("game", frozenset({"llm"}), UNLIMITED, 3600))
    task_id = accepted(records, owner="game", shown={})
    clock.forward(3599)
    duty.step()
    assert state_of(records, task_id) == "queued"
    clock.forward(1 + DELAY_S)
    duty.step()
    assert state_of(records, task_id) == "cancelled"


def test_batches_end_as_well(duty: EndedTokens, tokens: MintedTokens, clock: Clock, broker: Valkey) -> None:
    batches = BatchRecords(broker.client, broker.settings)
    tokens.mint(Grant("game"))
    mine, players, others = (batches.submit(SPEC, owner)[0] for owner in ("game", "game/42", "other"))
    batches.pause(players)
    tokens.revoke("game")
    clock.forward(DELAY_S)
    duty.step()
    assert [batches.get(batch_id)["state"] for batch_id in (mine, players, others)] == ["cancelled"] * 2 + ["queued"]
    assert "revoked" in batches.get(mine)["reason"]


def test_a_token_that_takes_the_name_again_keeps_its_tasks(
    duty: EndedTokens, tokens: MintedTokens, clock: Clock, records: TaskRecords
) -> None:
    tokens.mint(Grant("game"))
    tokens.revoke("game")
    tokens.mint(Grant("game"))
    task_id = accepted(records, owner="game", shown={})
    clock.forward(DELAY_S)
    assert duty.step() == 0
    assert state_of(records, task_id) == "queued"


def test_a_rotation_ends_nothing(
    duty: EndedTokens, tokens: MintedTokens, clock: Clock, records: TaskRecords, client: BrokerClient
) -> None:
    tokens.mint(Grant("game", frozenset({"llm"}), UNLIMITED, 3600))
    task_id = accepted(records, owner="game", shown={})
    tokens.rotate("game", 60)
    clock.forward(61)
    assert duty.step() == 0
    assert state_of(records, task_id) == "queued"
    assert client.zscore(keys.TOKEN_ENDS, "game") == clock.now + 3539


def test_a_configured_token_of_the_same_name_keeps_its_tasks(
    duty_with, tokens: MintedTokens, clock: Clock, records: TaskRecords
) -> None:
    tokens.mint(Grant("game"))
    task_id = accepted(records, owner="game", shown={})
    tokens.revoke("game")
    clock.forward(DELAY_S)
    assert duty_with(api_tokens="game:a-secret-of-the-tests").step() == 0
    assert state_of(records, task_id) == "queued"


def test_if_they_may_finish_they_do(duty_with, tokens: MintedTokens, clock: Clock, records: TaskRecords) -> None:
    tokens.mint(Grant("game"))
    task_id = accepted(records, owner="game", shown={})
    tokens.revoke("game")
    clock.forward(DELAY_S)
    assert duty_with(revoked_tasks="finish").step() == 0
    assert state_of(records, task_id) == "queued"


def test_many_are_ended_in_several_looks(
    duty_with, tokens: MintedTokens, clock: Clock, records: TaskRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graycat.worker.ended_tokens.MAX_TASKS", 2)
    tokens.mint(Grant("game"))
    for owner in ("game", "game", "game/1", "game/2", "game/3"):
        accepted(records, owner=owner, shown={})
    tokens.revoke("game")
    clock.forward(DELAY_S)
    duty = duty_with()
    assert [duty.step() for _ in range(4)] == [2, 2, 1, 0]
    assert MAX_TASKS > 2


@pytest.mark.parametrize("rubbish", [b"\xff\xfe", b"", b"*", b"game\x00"])
def test_rubbish_among_them_ends_nobody_s_and_hides_no_other(
    duty: EndedTokens, tokens: MintedTokens, clock: Clock, records: TaskRecords, client: BrokerClient, rubbish: bytes
) -> None:
    tokens.mint(Grant("game"))
    task_id, other = (accepted(records, owner=owner, shown={}) for owner in ("game", "other"))
    tokens.revoke("game")
    client.zadd(keys.TOKEN_ENDS, {rubbish: 1.0})
    names: dict[Any, float] = {b"no task": 1.0, b"\xff": 2.0}
    client.zadd(keys.owned_key("llm", "game"), names)
    clock.forward(DELAY_S)
    duty.step()
    assert [state_of(records, found) for found in (task_id, other)] == ["cancelled", "queued"]


def test_a_worker_is_told_at_once(
    duty: EndedTokens, tokens: MintedTokens, clock: Clock, records: TaskRecords, client: BrokerClient
) -> None:
    tokens.mint(Grant("game"))
    task_id = accepted(records, owner="game", shown={})
    claimed(records, task_id)
    tokens.revoke("game")
    clock.forward(DELAY_S)
    with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.psubscribe("*celery.pidbox*")
        pubsub.get_message(timeout=1)
        duty.step()
        message = pubsub.get_message(timeout=5)
    assert message is not None
    assert json.loads(message["data"])


def test_tasks_of_a_token_that_an_earlier_release_has_minted_end_when_it_expires(
    duty: EndedTokens, tokens: MintedTokens, clock: Clock, records: TaskRecords, client: BrokerClient
) -> None:
    tokens.mint(Grant("old", ttl_s=60))
    tokens.mint(Grant("new", ttl_s=600))
    tokens.mint(Grant("always"))
    client.zrem(keys.TOKEN_ENDS, "old")
    tokens.note_ends()
    tokens.note_ends()
    assert client.zrange(keys.TOKEN_ENDS, 0, -1) == [b"old", b"new"]
    task = accepted(records, owner="old", shown={})
    clock.now += 60 + DELAY_S
    assert (duty.step(), state_of(records, task)) == (1, "cancelled")
