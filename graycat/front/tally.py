"""Counts what the guard refuses and cuts: as metrics at once, in the log with a line a second for each reason."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from graycat.front.places import STATES, Places
from graycat.metrics import web as metrics

logger = logging.getLogger(__name__)

#: Seconds between two lines of the log about the same.
LOG_INTERVAL_S = 1.0
#: Not logged: what happens all day long.
QUIET = frozenset({"idle", "lingering"})


class Tally:
    """What has happened since it was last told. A flood costs a number each, not a line."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reported_at = 0.0
        self._counts: Counter[tuple[str, str]] = Counter()

    def refuse(self, reason: str) -> None:
        """Count a connection that was closed before anything of it was read."""
        metrics.CONNECTIONS_REFUSED.labels(reason).inc()
        self._counts["connections refused", reason] += 1

    def cut(self, reason: str) -> None:
        """Count a connection that was ended by the guard."""
        metrics.CONNECTIONS_CUT.labels(reason).inc()
        if reason not in QUIET:
            self._counts["connections cut", reason] += 1

    def reject(self, reason: str) -> None:
        """Count a request that is not HTTP."""
        metrics.REQUESTS_REJECTED.labels(reason).inc()
        self._counts["requests that are not HTTP", reason] += 1

    def report(self, places: Places) -> None:
        """Log what has happened, if the last time was a while ago, and show how many connections are open."""
        for state in STATES:
            metrics.CONNECTIONS_OPEN.labels(state).set(places.number_of(state))
        now = self._clock()
        if now - self._reported_at < LOG_INTERVAL_S or not self._counts:
            return
        self._reported_at = now
        for (what, reason), count in self._counts.items():
            logger.warning(what, extra={"reason": reason, "count": count, "open": places.count})
        self._counts.clear()
