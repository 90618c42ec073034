"""How a node can fail."""

from __future__ import annotations

import asyncio
import os

OUT_OF_MEMORY = "Allocation on device 0 would exceed allowed memory. (out of memory)"


class OutOfMemoryError(Exception):
    """Raised by a node as on a device without memory."""


async def fail(how: str) -> None:
    """Fail; ``kill`` ends the process, ``hang`` goes on for ever and heeds no interrupt."""
    if how == "kill":
        os._exit(1)
    if how == "hang":
        await asyncio.Event().wait()
    if how == "oom":
        raise OutOfMemoryError(OUT_OF_MEMORY)
    msg = "mat1 and mat2 shapes cannot be multiplied (77x2048 and 768x320)"
    raise RuntimeError(msg)
