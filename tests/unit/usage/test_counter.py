from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from graycat.broker.client import now_ms
from graycat.broker.keys import UNCOUNTED, record_key, usage_key, wrong_type_key
from graycat.errors import EngineLost
from graycat.metrics import usage
from graycat.queue.models import Attempt, ReleaseReason
from graycat.queue.records import TaskRecords
from graycat.usage import counter as counting
from graycat.usage.amounts import Amounts, Row, day_of
from graycat.usage.counter import MAX_TOKENS, UsageCounter
from graycat.usage.reader import UsageReader
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, accepted, changed, claimed, eventually, started
from tests.support.metered import value

DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def counter(broker: Valkey) -> UsageCounter:
    return UsageCounter(broker.client, broker.settings)


@pytest.fixture
def rows(client: BrokerClient) -> Callable[[], list[Row]]:
    """Return how to read today's rows, without the time of engines."""
    reader = UsageReader(client)

    def read() -> list[Row]:
        today = day_of(now_ms(client))
        found = reader.read(today, today)
        for row in found:
            row.amounts.engine_ms = 0
        return found

    return read


def engine_ms(client: BrokerClient, owner: str = "tests", family: str = "llm") -> int:
    today = day_of(now_ms(client)).isoformat()
    return int(client.hget(usage_key(today), f"{owner} {family} engine_ms") or 0)


def make(attempt: Attempt, prompt_tokens: int = 0, completion_tokens: int = 0, images: int = 0) -> Attempt:
    """Have an attempt made something."""
    attempt.made.prompt_tokens, attempt.made.completion_tokens = prompt_tokens, completion_tokens
    attempt.made.images = images
    return attempt


def attempt_at(records: TaskRecords, task_id: str) -> Attempt | None:
    """Claim a task if it may be claimed."""
    reply = records.claim(task_id, "llm@there")
    if isinstance(reply, Attempt):
        return reply
    return None


def today_of(rows: list[Row]) -> dict[tuple[str, str], Amounts]:
    return {(row.owner, row.family): row.amounts for row in rows}


def test_a_task_counts_when_it_has_ended_and_once(records, client, counter, rows) -> None:
    attempt = make(started(records, owner="game"), 9, 4)
    assert (counter.step(), rows()) == (0, [])
    records.succeed(attempt, 200, b"{}")
    assert (counter.step(), counter.step()) == (1, 0)
    assert today_of(rows()) == {("game", "llm"): Amounts(requests=1, prompt_tokens=9, completion_tokens=4)}
    assert client.zcard(UNCOUNTED) == 0


def test_two_counters_that_see_the_same_task_count_it_once(records, broker, counter, rows, monkeypatch) -> None:
    records.succeed(make(started(records), 5), 200, b"{}")
    second = UsageCounter(broker.client, broker.settings)
    listed = counter._read_listed()
    monkeypatch.setattr(UsageCounter, "_read_listed", lambda _: listed)
    assert (counter.step(), second.step()) == (1, 0)
    assert today_of(rows()) == {("tests", "llm"): Amounts(requests=1, prompt_tokens=5)}


def test_every_end_counts_by_what_it_was(records, counter, rows) -> None:
    records.fail(make(started(records), 5, 1), EngineLost())
    records.finish_cancelled(make(started(records), 6, 2))
    records.cancel(accepted(records))
    records.expire(accepted(records, queue_ttl_s=0.0))
    assert counter.step() == 4
    assert today_of(rows())["tests", "llm"] == Amounts(
        requests=4, failed=2, cancelled=2, prompt_tokens=11, completion_tokens=3
    )


def test_a_player_counts_for_the_token_of_its_game(records, counter, rows) -> None:
    for player in range(3):
        records.succeed(make(started(records, owner=f"game/{player}"), 1), 200, b"{}")
    records.succeed(make(started(records, owner="game", kind="sd.txt2img", queue="sd"), images=4), 200, b"{}")
    assert counter.step() == 4
    assert today_of(rows()) == {
        ("game", "llm"): Amounts(requests=3, prompt_tokens=3),
        ("game", "sd"): Amounts(requests=1, images=4),
    }


def test_each_attempt_adds_what_it_has_made_and_its_time(broker, client, counter, rows) -> None:
    hasty = TaskRecords(broker.client, changed(broker.settings, lease_s=0.05))
    task_id = accepted(hasty)
    first = make(claimed(hasty, task_id), 7, 2)
    held_from = time.monotonic()
    eventually(lambda: time.monotonic() - held_from > 0.02)
    assert hasty.release(first, ReleaseReason.FREE)
    # This one's worker vanishes: what it has made is not known, but for how long it had the engine.
    claimed(hasty, task_id)
    second_ms = int(hasty.get(task_id)["engine_ms"])
    third = eventually(lambda: attempt_at(hasty, task_id))
    assert third is not None
    assert second_ms >= 20
    assert int(hasty.get(task_id)["engine_ms"]) == second_ms + 50
    hasty.succeed(make(third, 7, 3), 200, b"{}")
    assert counter.step() == 1
    assert engine_ms(client) >= second_ms + 50
    assert today_of(rows())["tests", "llm"] == Amounts(requests=1, prompt_tokens=14, completion_tokens=5)


def test_a_stale_attempt_adds_nothing(broker, records, counter, rows) -> None:
    attempt = make(started(records), 5, 5)
    records.succeed(attempt, 200, b"{}")
    assert not records.succeed(make(attempt, 50, 50), 200, b"{}")
    assert not records.release(attempt)
    counter.step()
    assert today_of(rows())["tests", "llm"] == Amounts(requests=1, prompt_tokens=5, completion_tokens=5)


def test_a_record_decides_neither_whose_a_task_is_nor_that_it_counts_again(records, client, counter, rows) -> None:
    attempt = make(started(records, owner="game"), 5)
    records.succeed(attempt, 200, b"{}")
    forged = {
        "owner": "victim",
        "completion_tokens": "9" * 14,
        "prompt_tokens": "-5",
        "images": "x",
        "engine_ms": 10**12,
    }
    client.hset(record_key(attempt.task_id), mapping={**forged, "finished_ms": now_ms(client) - 400 * DAY_MS})
    assert counter.step() == 1
    assert today_of(rows()) == {("game", "llm"): Amounts(requests=1, completion_tokens=MAX_TOKENS)}
    # No more time than has passed since it was accepted.
    assert engine_ms(client, "game") < 60_000
    client.hset(record_key(attempt.task_id), "state", "running")
    client.hset(record_key(attempt.task_id), "state", "failed")
    assert counter.step() == 0


def test_a_task_whose_record_is_gone_counts_as_failed(records, client, counter, rows) -> None:
    lost, replaced = accepted(records, owner="game"), accepted(records, owner="game")
    client.delete(record_key(lost), record_key(replaced))
    client.set(record_key(replaced), "another program's")
    assert counter.step() == 2
    assert today_of(rows()) == {("game", "llm"): Amounts(requests=2, failed=2)}


def test_tasks_that_go_on_do_not_hide_those_behind_them(records, counter, monkeypatch, rows) -> None:
    monkeypatch.setattr(counting, "MAX_CHECKED", 3)
    going_on = [started(records) for _ in range(7)]
    records.succeed(started(records), 200, b"{}")
    eventually(counter.step)
    records.succeed(going_on[0], 200, b"{}")
    eventually(counter.step)
    assert today_of(rows()) == {("tests", "llm"): Amounts(requests=2)}


def test_a_day_is_kept_as_long_as_the_setting_says(broker, records, client) -> None:
    records.succeed(started(records), 200, b"{}")
    UsageCounter(client, changed(broker.settings, usage_days=2)).step()
    left_ms = client.pttl(usage_key(day_of(now_ms(client)).isoformat()))
    assert 2 * DAY_MS - 60_000 < left_ms <= 3 * DAY_MS


def test_a_list_that_nobody_counts_is_bounded_and_goes(records, client) -> None:
    accepted(records)
    assert 0 < client.pttl(UNCOUNTED) <= 7 * DAY_MS
    client.zadd(UNCOUNTED, {f"{number:032x} game": number for number in range(100_000)})
    accepted(records)
    assert client.zcard(UNCOUNTED) == 100_001


def test_keys_that_another_program_has_written_over_cost_nobody_a_task(records, client, counter, rows) -> None:
    client.set(UNCOUNTED, "no list")
    first = started(records)
    counter.step()
    assert client.get(wrong_type_key(UNCOUNTED)) == b"no list"
    second = started(records)
    today = usage_key(day_of(now_ms(client)).isoformat())
    client.set(today, "no hash")
    for attempt in (first, second):
        records.succeed(attempt, 200, b"{}")
    eventually(counter.step)
    assert client.get(wrong_type_key(today)) == b"no hash"
    # The first was accepted while there was no list.
    assert today_of(rows()) == {("tests", "llm"): Amounts(requests=1)}


def test_an_amount_that_is_no_number_begins_anew(records, client, counter, rows) -> None:
    today = usage_key(day_of(now_ms(client)).isoformat())
    client.hset(today, "tests llm requests", "many")
    records.succeed(started(records), 200, b"{}")
    assert counter.step() == 1
    assert today_of(rows()) == {("tests", "llm"): Amounts(requests=1)}


def test_what_is_counted_shows_in_the_metrics(records, counter) -> None:
    def read() -> list[float]:
        labels = {"token": "metered", "family": "llm"}
        return [
            value(usage, "graycat_usage_requests_total", **labels),
            value(usage, "graycat_usage_tokens_total", type="prompt", **labels),
            value(usage, "graycat_usage_tokens_total", type="completion", **labels),
        ]

    records.succeed(make(started(records, owner="metered/player"), 9, 4), 200, b"{}")
    counter.step()
    assert read() == [1, 9, 4]
