"""Reads what API tokens have used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta

from graycat.broker.client import broker_errors, is_unusable_key, now_ms
from graycat.broker.keys import usage_key
from graycat.broker.protocol import Broker
from graycat.errors import RequestError
from graycat.families import FAMILIES
from graycat.loops.unexpected import note
from graycat.usage.amounts import Row, day_of, field_names, parse_rows

#: Days that are shown if none are named, today among them.
DEFAULT_DAYS = 30
#: The most days of one question.
MAX_DAYS = 366
#: Days that are read in one round trip.
_READ_DAYS = 31
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class UsageReader:
    """The usage in the broker."""

    def __init__(self, client: Broker) -> None:
        self._client = client

    def choose_days(self, first: str | None, last: str | None) -> tuple[date, date]:
        """Return the days that a caller names (``2026-11-29``, both are shown); by default 30 days up to today, UTC.

        Raises RequestError, BrokerUnavailable.
        """
        if last is None:
            with broker_errors():
                last_day = day_of(now_ms(self._client))
        else:
            last_day = _parse_day("to", last)
        if first is None:
            first_day = last_day - timedelta(days=min(DEFAULT_DAYS, last_day.toordinal()) - 1)
        else:
            first_day = _parse_day("from", first)
        if not 0 <= (last_day - first_day).days < MAX_DAYS:
            raise RequestError(f"'from' must not be after 'to', and from one to the other at most {MAX_DAYS} days")
        return first_day, last_day

    def read(self, first: date, last: date, owner: str | None = None) -> list[Row]:
        """Return the rows of some days, the newest day first: of one owner, or of all. Raises BrokerUnavailable."""
        days = [last - timedelta(days=number) for number in range((last - first).days + 1)]
        rows: list[Row] = []
        for begin in range(0, len(days), _READ_DAYS):
            rows += self._read_days(days[begin : begin + _READ_DAYS], owner)
        return rows

    def _read_days(self, days: list[date], owner: str | None) -> list[Row]:
        names: list[str] = []
        if owner is not None:
            for family in FAMILIES:
                names += field_names(owner, family.name)
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            for day in days:
                if owner is None:
                    pipe.hgetall(usage_key(day.isoformat()))
                else:
                    pipe.hmget(usage_key(day.isoformat()), names)
            replies = pipe.execute(raise_on_error=False)
            # Any other error than that of one key is the broker's.
            unusable = [is_unusable_key(reply) for reply in replies]

        rows: list[Row] = []
        for day, reply, is_unusable in zip(days, replies, unusable, strict=True):
            if is_unusable:
                note("usage", reply)
                continue
            hashed: Mapping[bytes, bytes] = reply
            if owner is not None:
                found = zip(names, reply, strict=True)
                hashed = {name.encode(): value for name, value in found if value is not None}
            rows += parse_rows(day, hashed)
        return rows


def _parse_day(name: str, text: str) -> date:
    """Return a day. Raises RequestError."""
    try:
        if _DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise RequestError(f"'{name}' must be a day such as 2026-11-29 (UTC)")
