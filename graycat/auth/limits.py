"""Limits of an API token: how much it may ask for at once, and how often.

Rate, concurrency and waiting tasks are counted in the broker, all in one script: an API token that asks twice at once
does not get its last place twice. A token without such limits costs no call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from graycat.broker.client import broker_errors
from graycat.broker.keys import LIVE_TASKS, events_key, owned_key, players_key, rate_key, record_key
from graycat.broker.protocol import Broker
from graycat.broker.scripts import Scripts
from graycat.errors import LimitExceeded, RequestError

#: Seconds after which to try again where nobody knows when a task will end.
RETRY_S = 2
#: Larger ones are no limits; the rate's members are kept one by one.
MOST = 10**9
MOST_RATE = 100_000

_SENTENCES = {
    "rate": "may begin {} requests a minute",
    "concurrency": "may have {} unfinished tasks at once",
    "queued": "may have {} tasks waiting at once",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What an API token may use; None where it has no limit of its own."""

    #: Requests that make a task, in any 60 seconds.
    rate: int | None = None
    #: Tasks that are queued or running.
    concurrency: int | None = None
    #: Tasks that are queued.
    queued: int | None = None
    #: Tokens that one request may have generated, in all its answers together.
    max_tokens: int | None = None
    #: Pixels of all images of one request, each at its largest.
    max_pixels: int | None = None

    @property
    def counted(self) -> bool:
        """Tell whether any of them has to be counted in the broker."""
        return (self.rate or self.concurrency or self.queued) is not None

    def to_dict(self) -> dict[str, int]:
        """Return those that there are, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

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
                raise RequestError(f"'limits' has no {name[:100]!r}; there are {', '.join(names)}")
            most = MOST_RATE if name == "rate" else MOST
            if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= most:
                raise RequestError(f"limits: {name!r} must be a whole number, 1 to {most}")
        return cls(**value)

    def check_within(self, wider: Limits) -> None:
        """Raise RequestError where one of these is above the same of ``wider``."""
        for name, most in wider.to_dict().items():
            if (getattr(self, name) or 0) > most:
                raise RequestError(f"limits: {name!r} may be {most} at most, as for the API token that asks")


UNLIMITED = Limits()

#: Names of API tokens with their limits, on whose account a request goes: the caller's own first.
Holders = Sequence[tuple[str, Limits]]


def least(holders: Holders, name: str) -> int | None:
    """Return the narrowest of the holders' limits of that name; None where nobody has one."""
    given = [value for _, limits in holders if (value := getattr(limits, name)) is not None]
    return min(given, default=None)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a limit, and the seconds until there is more."""

    limit: int
    left: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        """Return the headers that tell a client."""
        values = {"Limit": self.limit, "Remaining": self.left, "Reset": self.reset_s}
        return {f"RateLimit-{name}": str(value) for name, value in values.items()}


class Limiter:
    """Counts tasks against limits, in the broker."""

    def __init__(self, client: Broker) -> None:
        self._client = client
        self._scripts = Scripts(client, Path(__file__).parent / "lua", ("admit",))

    def admit(self, task_id: str, holders: Holders) -> Allowance | None:
        """Count a task that is about to be created; return what is left of its rate, None where nobody limits that.

        Raises LimitExceeded, BrokerUnavailable: then it is not counted. A task that is not created after all stops
        counting as unfinished a few seconds later.
        """
        keys = [record_key(task_id), events_key(task_id), LIVE_TASKS]
        arguments = []
        for name, limits in holders:
            keys += _keys(name)
            arguments += [limits.rate or 0, limits.concurrency or 0, limits.queued or 0]
        with broker_errors():
            verdict, *numbers = self._scripts.run("admit", keys, arguments)
        if verdict:
            raise _exceeded(verdict.decode(), *numbers)
        limit, left, wait_ms = numbers
        return Allowance(limit, left, _seconds(wait_ms)) if limit else None

    def refund(self, task_id: str, holders: Holders) -> None:
        """Uncount a task that was not created. Raises BrokerUnavailable."""
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            for name, _ in holders:
                for key in _keys(name):
                    pipe.zrem(key, task_id)
            pipe.execute()


def _keys(name: str) -> list[str]:
    return [rate_key(name), owned_key(name), players_key(name)]


def _exceeded(verdict: str, place: int, limit: int, wait_ms: int) -> LimitExceeded:
    retry_s = _seconds(wait_ms) or RETRY_S
    whose = "this API token" if place == 1 else "the API token that made this one, with all its players,"
    message = f"{whose} {_SENTENCES[verdict].format(limit)}; try again in {retry_s} s"
    return LimitExceeded(message, retry_s, Allowance(limit, 0, retry_s).headers())


def _seconds(milliseconds: int) -> int:
    return math.ceil(milliseconds / 1000)
