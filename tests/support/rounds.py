"""What changes between two looks of the event loop at its sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gevent


@contextmanager
def each_look(count: Callable[[], int]) -> Iterator[list[int]]:
    """Yield a list to which the number that ``count`` returns is added at each look."""
    seen = [count()]
    watcher = gevent.get_hub().loop.check()
    watcher.start(lambda: seen.append(count()))
    try:
        yield seen
    finally:
        watcher.stop()
        watcher.close()


def largest_step(seen: list[int]) -> int:
    """Return by how much the number has changed at most between two looks."""
    return max(abs(later - earlier) for earlier, later in zip(seen, seen[1:], strict=False))
