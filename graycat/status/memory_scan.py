"""A census of what the broker holds, a few keys at a time: to count everything at once would cost it milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graycat.broker.client import broker_errors
from graycat.broker.keys import PREFIX, artifact_key, events_key
from graycat.broker.protocol import Broker

#: Keys that one step looks at, roughly.
KEYS_A_STEP = 500
EVENTS, ARTIFACTS = events_key("").encode(), artifact_key("", 0).partition("::")[0].encode() + b":"


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes of the broker's memory that are taken by event streams and by finished images."""

    events: int = 0
    artifacts: int = 0


class MemoryScan:
    """Goes through the keys step by step; what it tells is as old as the last time it was through."""

    def __init__(self, client: Broker) -> None:
        self._client = client
        self._cursor = 0
        self._counted = {EVENTS: 0, ARTIFACTS: 0}
        self._asked: list[bytes] = []
        self._last: MemoryUse | None = None

    def step(self) -> MemoryUse:
        """Look at some more keys; return what there is, as far as it is known. Raises BrokerUnavailable."""
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            self.ask(pipe)
            (found,) = pipe.execute()
            self.weigh(pipe, found)
            return self.count(pipe.execute())

    def ask(self, pipe: Any) -> None:
        """Have a pipeline ask for some more keys; its answer is for ``weigh``."""
        pipe.scan(self._cursor, match=f"{PREFIX}[ea]*", count=KEYS_A_STEP)

    def weigh(self, pipe: Any, found: tuple[int, list[bytes]]) -> None:
        """Have a pipeline ask how large those are that count; its answers are for ``count``."""
        self._cursor, keys = found
        self._asked = [kind for key in keys for kind in self._counted if key.startswith(kind)]
        for key in keys:
            if key.startswith(tuple(self._counted)):
                pipe.memory_usage(key)

    def count(self, sizes: Sequence[int | None]) -> MemoryUse:
        """Add them up; return what there is, as far as it is known."""
        for kind, size in zip(self._asked, sizes, strict=True):
            # None where it has ended meanwhile.
            self._counted[kind] += size or 0
        now = MemoryUse(self._counted[EVENTS], self._counted[ARTIFACTS])
        if self._cursor == 0:
            self._last, self._counted = now, dict.fromkeys(self._counted, 0)
        return self._last or now
