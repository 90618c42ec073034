"""The broker's memory by its use, a few keys at a time: counting all keys at once would block it for milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graycat.broker.client import broker_errors
from graycat.broker.keys import PREFIX, artifact_key, events_key
from graycat.broker.protocol import Broker

#: Keys that one step looks at, roughly.
KEYS_PER_STEP = 500
#: Prefixes of the keys that are counted.
EVENTS, ARTIFACTS = events_key("").encode(), artifact_key("", 0).partition("::")[0].encode() + b":"


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes of the broker's memory that are taken by event streams and by finished images, and in all.

    ``most``: what the broker may take; 0: any amount. ``stored``: what tasks are charged with (``queue/stored.py``).
    """

    events: int = 0
    artifacts: int = 0
    used: int = 0
    most: int = 0
    stored: int = 0


class MemoryScan:
    """Goes through all keys step by step (SCAN, MEMORY USAGE). Its result is that of the last complete scan."""

    def __init__(self, client: Broker) -> None:
        self._client = client
        self._cursor = 0
        #: Bytes that this scan has found, by prefix.
        self._bytes = {EVENTS: 0, ARTIFACTS: 0}
        #: The prefixes of the keys whose sizes were asked for last.
        self._prefixes: list[bytes] = []
        self._complete: MemoryUse | None = None

    def step(self) -> MemoryUse:
        """Look at some more keys; return the memory use, as far as it is known. Raises BrokerUnavailable."""
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            self.request_keys(pipe)
            (reply,) = pipe.execute()
            self.request_sizes(pipe, reply)
            return self.add_sizes(pipe.execute())

    def request_keys(self, pipe: Any) -> None:
        """Add the command for some more keys to a pipeline; its reply is for ``request_sizes``."""
        pipe.scan(self._cursor, match=f"{PREFIX}[ea]*", count=KEYS_PER_STEP)

    def request_sizes(self, pipe: Any, reply: tuple[int, list[bytes]]) -> None:
        """Add the commands for the sizes of the keys to a pipeline; their replies are for ``add_sizes``."""
        self._cursor, keys = reply
        self._prefixes = []
        for key in keys:
            for prefix in self._bytes:
                if key.startswith(prefix):
                    self._prefixes.append(prefix)
                    pipe.memory_usage(key)

    def add_sizes(self, sizes: Sequence[int | None]) -> MemoryUse:
        """Add the sizes up; return the memory use, as far as it is known."""
        for prefix, size in zip(self._prefixes, sizes, strict=True):
            # None for a key that has expired meanwhile.
            self._bytes[prefix] += size or 0
        so_far = MemoryUse(self._bytes[EVENTS], self._bytes[ARTIFACTS])
        if self._cursor == 0:
            self._complete = so_far
            self._bytes = dict.fromkeys(self._bytes, 0)
        return self._complete or so_far
