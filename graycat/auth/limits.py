"""Limits of an API token: how many tasks it may have, how often it may submit one, and how large a request may be.

Rate, concurrency and queued tasks are counted in the broker, all in one script (``auth/lua/admit.lua``): of two
simultaneous requests only one gets the last place. A token without such limits costs no call to the broker.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from graycat import families
from graycat.bounds.names import suggest
from graycat.broker.client import broker_errors
from graycat.broker.keys import events_key, live_key, owned_key, players_key, rate_key, record_key
from graycat.broker.protocol import Broker
from graycat.broker.scripts import Scripts
from graycat.errors import LimitExceeded, RequestError
from graycat.families import FAMILIES

#: Seconds after which a client should try again if it is unknown when a task will end.
RETRY_S = 2
#: The largest limits. Requests of the last minute are stored one by one, so that of the rate is smaller.
MAX_LIMIT = 10**9
MAX_RATE = 100_000

_SENTENCES = {
    "rate": "may begin {} requests a minute",
    "concurrency": "may have {} unfinished tasks at once",
    "queued": "may have {} tasks waiting at once",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What an API token may use; None if it has no limit of its own."""

    #: Requests that create a task, in any 60 seconds.
    rate: int | None = None
    #: Tasks that are queued or running.
    concurrency: int | None = None
    #: Tasks that are queued.
    queued: int | None = None
    #: Tokens that the engine may generate for one request, in all its answers together.
    max_tokens: int | None = None
    #: Pixels of all images of one request, each at its largest.
    max_pixels: int | None = None

    @property
    def counted(self) -> bool:
        """Return whether any of them has to be counted in the broker."""
        return (self.rate or self.concurrency or self.queued) is not None

    def to_dict(self) -> dict[str, int]:
        """Return those that are set, by name."""
        limits = asdict(self)
        for name, value in asdict(self).items():
            if value is None:
                del limits[name]
        return limits

    @classmethod
    def read(cls, value: Any) -> Limits:
        """Return the limits of a JSON object, or of null. Raises RequestError naming what is wrong."""
        if value is None:
            return UNLIMITED
        if not isinstance(value, dict):
            raise RequestError("'limits' must be an object")
        names = [field.name for field in fields(cls)]
        for name, number in value.items():
            if name not in names:
                raise RequestError(f"'limits' has no {name[:100]!r}; {suggest(name, names)}")
            largest = MAX_LIMIT
            if name == "rate":
                largest = MAX_RATE
            if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= largest:
                raise RequestError(f"limits: {name!r} must be a whole number, 1 to {largest}")
        return cls(**value)

    def check_within(self, wider: Limits) -> None:
        """Raise RequestError if one of these is above the same limit of ``wider``."""
        for name, largest in wider.to_dict().items():
            if (getattr(self, name) or 0) > largest:
                raise RequestError(f"limits: {name!r} may be {largest} at most, as for the API token that asks")


UNLIMITED = Limits()

#: The names and limits of the API tokens to which a request is charged: the caller's own first.
Holders = Sequence[tuple[str, Limits]]


def least(holders: Holders, name: str) -> int | None:
    """Return the smallest of the holders' limits of a name; None if none of them has one."""
    smallest: int | None = None
    for _, limits in holders:
        value = getattr(limits, name)
        if value is not None and (smallest is None or value < smallest):
            smallest = value
    return smallest


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a limit, and the seconds until there is more."""

    limit: int
    left: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        """Return the response headers for a client."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.left),
            "RateLimit-Reset": str(self.reset_s),
        }


class Limiter:
    """Counts tasks against limits, in the broker."""

    def __init__(self, client: Broker) -> None:
        self._client = client
        self._scripts = Scripts(client, Path(__file__).parent / "lua", ("admit",))

    def admit(self, task_id: str, holders: Holders) -> Allowance | None:
        """Count a task that is about to be created; return what is left of its rate, None if the rate is not limited.

        Raises LimitExceeded, BrokerUnavailable: then it is not counted. A task that is not created in the end no longer
        counts as unfinished a few seconds later.
        """
        keys = [record_key(task_id), events_key(task_id), live_key(_families_from(task_id)[0])]
        arguments = []
        for name, limits in holders:
            keys += _keys(name, task_id)
            arguments += [limits.rate or 0, limits.concurrency or 0, limits.queued or 0]
        with broker_errors():
            verdict, *numbers = self._scripts.run("admit", keys, arguments)
        if verdict:
            raise _exceeded(verdict.decode(), *numbers)
        limit, left, wait_ms = numbers
        if not limit:
            return None
        return Allowance(limit, left, _seconds(wait_ms))

    def refund(self, task_id: str, holders: Holders) -> None:
        """Uncount a task that was not created. Raises BrokerUnavailable."""
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            for name, _ in holders:
                for key in _keys(name, task_id):
                    pipe.zrem(key, task_id)
            pipe.execute()


def _families_from(task_id: str) -> list[str]:
    """Return the names of all families, that of a task first."""
    own = families.find_by_id(task_id).name
    return [own, *(family.name for family in FAMILIES if family.name != own)]


def _keys(name: str, task_id: str) -> list[str]:
    """Return the keys in which the tasks of an API token are counted, in the order of admit.lua."""
    keys = [rate_key(name)]
    for family in _families_from(task_id):
        keys += [owned_key(family, name), players_key(family, name)]
    return keys


def _exceeded(verdict: str, holder: int, limit: int, wait_ms: int) -> LimitExceeded:
    """Return the error for a limit of one of the holders, counted from 1."""
    retry_s = _seconds(wait_ms) or RETRY_S
    subject = "this API token"
    if holder > 1:
        subject = "the API token that made this one, with all its players,"
    message = f"{subject} {_SENTENCES[verdict].format(limit)}; try again in {retry_s} s"
    return LimitExceeded(message, retry_s, Allowance(limit, 0, retry_s).headers())


def _seconds(milliseconds: int) -> int:
    return math.ceil(milliseconds / 1000)
