"""Memory of a process that serves."""

from __future__ import annotations

import gc


def settle_memory() -> None:
    """Keep the collector off everything that is loaded by now: it lives as long as the process.

    A full collection of a web process walks some hundred thousand objects, which takes tens of milliseconds in the
    middle of somebody's stream and empties the caches that an engine beside it has filled.
    """
    gc.collect()
    gc.freeze()
