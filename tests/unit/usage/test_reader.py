from __future__ import annotations

from datetime import date, timedelta

import pytest

from graycat.broker.client import now_ms
from graycat.broker.keys import usage_key
from graycat.errors import RequestError
from graycat.usage.amounts import Amounts, Row, day_of
from graycat.usage.reader import MAX_DAYS, UsageReader
from tests.support.broker import BrokerClient


@pytest.fixture
def reader(client: BrokerClient) -> UsageReader:
    return UsageReader(client)


def write(client: BrokerClient, day: str, owner: str, requests: int, family: str = "llm") -> None:
    client.hset(usage_key(day), f"{owner} {family} requests", requests)


def test_days_and_owners_are_chosen(client: BrokerClient, reader: UsageReader) -> None:
    for day in ("2026-09-01", "2026-10-30", "2026-11-01", "2026-11-02"):
        write(client, day, "game", 2)
        write(client, day, "tools", 3, "sd")
    first, last = date(2026, 9, 2), date(2026, 11, 1)
    game = [Row("game", date(2026, month, day), "llm", Amounts(requests=2)) for month, day in ((11, 1), (10, 30))]
    assert reader.read(first, last, "game") == game
    assert [(row.owner, row.day.month) for row in reader.read(first, last)] == [
        ("game", 11), ("tools", 11), ("game", 10), ("tools", 10),
    ]  # fmt: skip
    assert reader.read(first, last, "gam") == []


def test_a_day_that_another_program_has_written_over_hides_no_other(client: BrokerClient, reader: UsageReader) -> None:
    client.set(usage_key("2026-11-02"), "no hash")
    write(client, "2026-11-01", "game", 2)
    for owner in ("game", None):
        assert [row.day.day for row in reader.read(date(2026, 11, 1), date(2026, 11, 3), owner)] == [1]


def test_thirty_days_up_to_today_are_shown_if_none_are_named(client: BrokerClient, reader: UsageReader) -> None:
    today = day_of(now_ms(client))
    assert reader.choose_days(None, None) == (today - timedelta(days=29), today)
    assert reader.choose_days("2026-11-01", "2026-11-01") == (date(2026, 11, 1), date(2026, 11, 1))
    assert reader.choose_days(None, "0001-01-02") == (date(1, 1, 1), date(1, 1, 2))


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("", None), (None, ""), ("today", None), ("2026-11-31", None), ("20261101", None), (None, "2026-W48-1"),
        ("2026-11-02", "2026-11-01"), ("2025-11-01", "2026-11-02"), ("٢٠٢٦-11-01", None),
    ],
)  # fmt: skip
def test_days_that_are_none_are_refused(reader: UsageReader, first: str | None, last: str | None) -> None:
    with pytest.raises(RequestError, match="from|to"):
        reader.choose_days(first, last)


def test_a_year_may_be_asked_for_at_once(reader: UsageReader) -> None:
    last = date(2026, 11, 29)
    first = last - timedelta(days=MAX_DAYS - 1)
    assert reader.choose_days(first.isoformat(), last.isoformat()) == (first, last)
