"""The heartbeat of the consumer's main loop: whether it was seen a moment ago."""

from __future__ import annotations

import time

#: A main loop that was not seen for this many seconds consumes nothing, whatever else is known of the worker.
LOOP_STUCK_AFTER_S = 3.0


class LoopHeartbeat:
    """When the main loop was last seen. It outlives the consumer's bootsteps, which a reconnect makes anew."""

    def __init__(self) -> None:
        self.stop()

    def beat(self) -> None:
        """Note that the loop runs."""
        self.seen_at = time.monotonic()

    def stop(self) -> None:
        """Note that the loop takes no more tasks."""
        self.seen_at = -LOOP_STUCK_AFTER_S

    @property
    def alive(self) -> bool:
        """Return whether the loop runs."""
        return time.monotonic() - self.seen_at < LOOP_STUCK_AFTER_S
