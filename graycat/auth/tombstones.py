"""Which minted API tokens were revoked: remembered for a while, so that their callers are told the truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from graycat.broker import keys
from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker, Pipeline

#: Seconds for which it is remembered that a token was revoked: ninety days. After that it is unknown.
KEPT_S = 90 * 86400
#: Seconds for which a process reuses what it has read: who goes on trying with a revoked token costs no more.
FRESH_S = 2.0
#: Prefixes in the cache of a process. Only secrets that were minted once are looked up.
MAX_CACHED = 10_000


class Tombstones:
    """The prefixes of revoked tokens in the broker, by the time when they were revoked."""

    def __init__(
        self,
        client: Broker,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._now = now
        self._clock = clock
        #: By prefix: when it was looked up (``clock``), and whether it was revoked.
        self._cached: dict[str, tuple[float, bool]] = {}

    def put(self, pipe: Pipeline, prefix: str) -> None:
        """Have a pipeline remember that a token is revoked now, and forget those of long ago."""
        now = self._now()
        pipe.zadd(keys.REVOKED_TOKENS, {prefix: now})
        pipe.zremrangebyscore(keys.REVOKED_TOKENS, "-inf", now - KEPT_S)
        pipe.pexpire(keys.REVOKED_TOKENS, KEPT_S * 1000)
        self._cached.pop(prefix, None)

    def among(self, prefixes: Sequence[str]) -> set[str]:
        """Return which of these tokens are revoked by now. Raises BrokerUnavailable."""
        if not prefixes:
            return set()
        with broker_errors():
            scores = self._client.zmscore(keys.REVOKED_TOKENS, list(prefixes))
        return {prefix for prefix, revoked_at in zip(prefixes, scores, strict=True) if revoked_at is not None}

    def has(self, prefix: str) -> bool:
        """Return whether a token with this prefix was revoked within ``KEPT_S``. Raises BrokerUnavailable."""
        asked_at = self._clock()
        cached_at, revoked = self._cached.get(prefix, (-FRESH_S, False))
        if asked_at - cached_at < FRESH_S:
            return revoked
        with broker_errors():
            revoked_at = self._client.zscore(keys.REVOKED_TOKENS, prefix)
        revoked = revoked_at is not None and self._now() - revoked_at < KEPT_S
        if len(self._cached) >= MAX_CACHED:
            self._cached.clear()
        self._cached[prefix] = asked_at, revoked
        return revoked
