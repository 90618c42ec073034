"""Tuning of the garbage collector for processes that serve requests."""

from __future__ import annotations

import gc


def settle_memory() -> None:
    """Exclude everything that is loaded by now from garbage collection: it lives as long as the process.

    A full collection of a web process walks some hundred thousand objects. That takes tens of milliseconds in the
    middle of a stream, and empties the CPU caches that an engine on the same machine has filled.
    """
    gc.collect()
    gc.freeze()
