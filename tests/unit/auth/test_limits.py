from __future__ import annotations

import threading
from typing import Any

import pytest

from graycat.auth.limits import MAX_RATE, RETRY_S, UNLIMITED, Allowance, Holders, Limiter, Limits, least
from graycat.broker import keys
from graycat.broker.client import connect
from graycat.errors import BrokerUnavailable, LimitExceeded, RequestError
from graycat.queue import ids
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, accepted, claimed, outcome_of


@pytest.fixture
def limiter(broker: Valkey) -> Limiter:
    return Limiter(broker.client)


def own(**limits: int) -> Holders:
    """Return the accounts of a token that has these limits."""
    return [("game", Limits(**limits))]


def player(name: str, game: Limits, **limits: int) -> Holders:
    """Return the accounts of a player's token."""
    return [(f"game/{name}", Limits(**limits)), ("game", game)]


def begun(limiter: Limiter, records: TaskRecords, holders: Holders) -> str:
    """Admit a task and create it; return its id."""
    task_id = ids.new_task_id("llm.completion")
    limiter.admit(task_id, holders)
    return accepted(records, id=task_id, owner=holders[0][0])


def ended(records: TaskRecords, task_id: str) -> None:
    records.succeed(claimed(records, task_id), 200, b"{}")


def later(client: BrokerClient, seconds: float) -> None:
    """Let the broker think that everything it counts was that much earlier."""
    for key in (*client.keys("graycat:rate:*"), *client.keys("graycat:live*")):
        for member, score in client.zrange(key, 0, -1, withscores=True):
            client.zadd(key, {member: score - seconds * 1000})


def refused(limiter: Limiter, holders: Holders) -> LimitExceeded:
    """Return how one more task is refused."""
    with pytest.raises(LimitExceeded) as caught:
        limiter.admit(ids.new_task_id("llm.completion"), holders)
    return caught.value


def test_a_minute_holds_as_many_requests_as_it_may(limiter: Limiter) -> None:
    left = [limiter.admit(ids.new_task_id("llm.completion"), own(rate=3)) for _ in range(3)]
    assert left == [Allowance(3, 2, 60), Allowance(3, 1, 60), Allowance(3, 0, 60)]
    error = refused(limiter, own(rate=3))
    assert (error.status, error.type, error.retry_after_s) == (429, "limit_exceeded", 60)
    assert error.headers == {"RateLimit-Limit": "3", "RateLimit-Remaining": "0", "RateLimit-Reset": "60"}
    assert "3 requests a minute" in str(error)


def test_never_more_in_any_minute_and_the_first_that_leaves_makes_room(limiter: Limiter, client: BrokerClient) -> None:
    for _ in range(2):
        limiter.admit(ids.new_task_id("llm.completion"), own(rate=2))
        later(client, 25)
    error = refused(limiter, own(rate=2))
    assert error.retry_after_s == 10
    later(client, 10.1)
    limiter.admit(ids.new_task_id("llm.completion"), own(rate=2))
    assert refused(limiter, own(rate=2)).retry_after_s in (24, 25)


def test_who_is_refused_spends_nothing(limiter: Limiter, client: BrokerClient) -> None:
    limiter.admit(ids.new_task_id("llm.completion"), own(rate=1, concurrency=1))
    for _ in range(5):
        refused(limiter, own(rate=1, concurrency=1))
    later(client, 60)
    limiter.admit(ids.new_task_id("llm.completion"), own(rate=1))


def test_what_is_counted_is_forgotten(limiter: Limiter, client: BrokerClient) -> None:
    limiter.admit(ids.new_task_id("llm.completion"), own(rate=3))
    assert 59_000 < client.pttl(keys.rate_key("game")) <= 60_000


def test_unfinished_tasks_count_until_they_end(limiter: Limiter, records: TaskRecords) -> None:
    tasks = [begun(limiter, records, own(concurrency=2)) for _ in range(2)]
    claimed(records, tasks[0])
    error = refused(limiter, own(concurrency=2))
    assert (error.retry_after_s, error.headers["RateLimit-Limit"]) == (RETRY_S, "2")
    assert "2 unfinished tasks" in str(error)
    ended(records, tasks[1])
    begun(limiter, records, own(concurrency=2))
    refused(limiter, own(concurrency=2))


def test_waiting_tasks_count_until_they_start(limiter: Limiter, records: TaskRecords) -> None:
    tasks = [begun(limiter, records, own(queued=2)) for _ in range(2)]
    assert "2 tasks waiting" in str(refused(limiter, own(queued=2)))
    claimed(records, tasks[0])
    begun(limiter, records, own(queued=2))
    refused(limiter, own(queued=2))


def test_of_many_at_once_only_as_many_get_in_as_may(limiter: Limiter) -> None:
    gate = threading.Barrier(8)

    def one() -> bool:
        gate.wait()
        try:
            limiter.admit(ids.new_task_id("llm.completion"), own(concurrency=3))
        except LimitExceeded:
            return False
        return True

    assert sum(wait() for wait in [outcome_of(one) for _ in range(8)]) == 3


def test_a_task_that_is_never_created_counts_for_seconds_only(limiter: Limiter, client: BrokerClient) -> None:
    limiter.admit(ids.new_task_id("llm.completion"), own(concurrency=1))
    refused(limiter, own(concurrency=1))
    later(client, 5)
    limiter.admit(ids.new_task_id("llm.completion"), own(concurrency=1))


def test_a_task_whose_record_lapsed_does_not_count_for_ever(
    limiter: Limiter, records: TaskRecords, client: BrokerClient
) -> None:
    task_id = begun(limiter, records, own(concurrency=1))
    client.delete(keys.record_key(task_id))
    later(client, 5)
    begun(limiter, records, own(concurrency=1))


def test_what_was_given_back_does_not_count(limiter: Limiter) -> None:
    holders = player("42", Limits(rate=1, concurrency=1), rate=1)
    for _ in range(2):
        task_id = ids.new_task_id("llm.completion")
        limiter.admit(task_id, holders)
        limiter.refund(task_id, holders)


def test_a_question_that_is_asked_again_does_not_stand_in_its_own_way(limiter: Limiter) -> None:
    task_id = ids.new_task_id("llm.completion")
    allowances = [limiter.admit(task_id, own(rate=1, concurrency=1)) for _ in range(2)]
    assert allowances == [Allowance(1, 0, 60)] * 2


def test_the_same_task_again_is_no_new_one(limiter: Limiter, records: TaskRecords) -> None:
    task_id = begun(limiter, records, own(rate=1, concurrency=1))
    assert limiter.admit(task_id, own(rate=1, concurrency=1)) is None


def test_players_have_limits_of_their_own(limiter: Limiter) -> None:
    holders = [player(name, UNLIMITED, rate=1, concurrency=1) for name in ("a", "b")]
    for each in holders:
        limiter.admit(ids.new_task_id("llm.completion"), each)
    assert "this API token" in str(refused(limiter, holders[0]))


@pytest.mark.parametrize("limits", [{"rate": 2}, {"concurrency": 2}, {"queued": 2}])
def test_a_game_s_limits_hold_for_all_its_players_together(
    limiter: Limiter, records: TaskRecords, limits: dict[str, int]
) -> None:
    game = Limits(**limits)
    begun(limiter, records, player("a", game))
    begun(limiter, records, [("game", game)])
    assert "all its players" in str(refused(limiter, player("b", game)))
    assert "this API token" in str(refused(limiter, [("game", game)]))


def test_a_player_s_tasks_are_off_the_game_s_account_when_they_end(limiter: Limiter, records: TaskRecords) -> None:
    holders = player("a", Limits(concurrency=1))
    ended(records, begun(limiter, records, holders))
    begun(limiter, records, holders)


def test_a_game_s_own_list_has_no_players_tasks(records: TaskRecords, client: BrokerClient) -> None:
    task_id = accepted(records, owner="game/42")
    assert (records.unfinished("game"), list(records.unfinished("game/42"))) == ({}, [task_id])
    assert client.zrange(keys.players_key("llm", "game"), 0, -1) == [task_id.encode()]


def test_the_rate_that_is_nearest_to_its_end_is_told(limiter: Limiter) -> None:
    for _ in range(2):
        allowance = limiter.admit(ids.new_task_id("llm.completion"), player("a", Limits(rate=3), rate=10))
    assert allowance == Allowance(3, 1, 60)


def test_where_nobody_limits_the_rate_nothing_is_told(limiter: Limiter) -> None:
    assert limiter.admit(ids.new_task_id("llm.completion"), own(concurrency=5)) is None


def test_without_a_broker_nobody_is_let_in(no_broker: Settings) -> None:
    limiter = Limiter(connect(no_broker))
    with pytest.raises(BrokerUnavailable):
        limiter.admit(ids.new_task_id("llm.completion"), own(rate=1))
    with pytest.raises(BrokerUnavailable):
        limiter.refund(ids.new_task_id("llm.completion"), own(rate=1))


def test_limits_are_read_from_json() -> None:
    assert Limits.read({"rate": 60, "max_pixels": 262144}) == Limits(rate=60, max_pixels=262144)
    assert Limits.read({}) == Limits.read(None) == UNLIMITED
    assert Limits(rate=60, queued=2).to_dict() == {"rate": 60, "queued": 2}


@pytest.mark.parametrize(
    "value",
    [[], 7, {"rate": 0}, {"rate": -1}, {"rate": True}, {"rate": 1.5}, {"rate": "60"}, {"rate": None}, {"tokens": 1},
     {"rate": MAX_RATE + 1}, {"queued": 10**12}],
)  # fmt: skip
def test_limits_that_are_none_are_refused(value: Any) -> None:
    with pytest.raises(RequestError, match="limits"):
        Limits.read(value)


@pytest.mark.parametrize("name", ["rate", "concurrency", "queued"])
def test_what_is_counted_needs_the_broker(name: str) -> None:
    assert Limits(**{name: 1}).counted


def test_what_is_not_counted_does_not() -> None:
    assert not Limits(max_tokens=1, max_pixels=1).counted


def test_the_narrowest_limit_counts() -> None:
    holders = player("a", Limits(max_tokens=100, rate=5), max_tokens=200, max_pixels=7)
    assert [least(holders, name) for name in ("max_tokens", "max_pixels", "queued")] == [100, 7, None]
    assert least((), "max_tokens") is None


def test_a_narrower_limit_is_within_a_wider_one() -> None:
    Limits(rate=5, queued=10**6).check_within(Limits(rate=5))
    UNLIMITED.check_within(Limits(rate=5))
    with pytest.raises(RequestError, match="'rate' may be 5 at most"):
        Limits(rate=6).check_within(Limits(rate=5))
