"""Prompts that wait, the one that runs, and those that are over: sections 3 to 5 of the reference."""

from __future__ import annotations

import asyncio
import copy
import heapq
import time
from collections.abc import Callable
from typing import Any

#: number, id, prompt, extra_data, outputs. It is compared as it is: the same number and id twice are an error, raised
#: after the item went in.
Item = tuple[float, str, dict[str, Any], dict[str, Any], list[str]]
MAX_HISTORY = 10_000
SECRETS = ("auth_token_comfy_org", "api_key_comfy_org")


def without_secrets(extra_data: dict[str, Any]) -> dict[str, Any]:
    """Return what a caller sent beside the prompt, less the keys of accounts."""
    return {key: value for key, value in extra_data.items() if key not in SECRETS}


class Prompts:
    """All prompts of one server. ``updated`` is called when their number changes."""

    def __init__(self, updated: Callable[[], None]) -> None:
        self.updated = updated
        self.pending: list[Item] = []
        self.running: Item | None = None
        self.history: dict[str, Any] = {}
        self.arrived = asyncio.Event()

    def remaining(self) -> int:
        """Count what waits or runs."""
        return len(self.pending) + (self.running is not None)

    def put(self, item: Item) -> None:
        """Queue a prompt. Raises TypeError if number and id are there already, and has queued it all the same."""
        try:
            heapq.heappush(self.pending, item)
        finally:
            self.arrived.set()
        self.updated()

    async def take(self) -> Item:
        """Wait for the next prompt and make it the running one."""
        while not self.pending:
            self.arrived.clear()
            await self.arrived.wait()
        item = heapq.heappop(self.pending)
        self.running = copy.deepcopy(item)
        self.updated()
        return item

    def done(self, result: dict[str, Any], status: dict[str, Any]) -> None:
        """Move the running prompt into the history; the same id overwrites."""
        item = self.running
        assert item is not None
        self.running = None
        if len(self.history) > MAX_HISTORY:
            del self.history[next(iter(self.history))]
        number, prompt_id, prompt, extra_data, outputs = item
        told = [number, prompt_id, prompt, without_secrets(extra_data), outputs]
        self.history.pop(prompt_id, None)
        self.history[prompt_id] = {"prompt": told, "outputs": {}, "status": status} | result
        self.updated()

    def delete(self, prompt_id: Any) -> None:
        """Remove one waiting prompt with that id, if there is one."""
        for place, item in enumerate(self.pending):
            if item[1] == prompt_id:
                del self.pending[place]
                heapq.heapify(self.pending)
                self.updated()
                return

    def clear(self) -> None:
        """Remove all that wait, of everybody."""
        self.pending.clear()
        self.updated()

    def told_history(self, max_items: int | None, offset: int) -> dict[str, Any]:
        """Return a part of the history, oldest first; ``max_items`` alone means the last ones."""
        entries = list(self.history.items())
        if offset < 0 and max_items is not None:
            offset = len(entries) - max_items
        begin = max(offset, 0)
        end = None if max_items is None else begin + max_items
        return dict(entries[begin:end])


def now_ms() -> int:
    """Return the time as the wire tells it."""
    return int(time.time() * 1000)
