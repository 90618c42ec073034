"""How far a prompt is: in percent over its nodes, and over the steps of those that sample."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from graycat.engines.comfy.socket import Message

#: The weight of a node without steps, in steps.
NODE_WEIGHT = 1.0
#: No node counts for more steps than this.
MAX_STEPS = 10_000
#: No message has a larger number.
LARGEST = 1e9
_ENDS = ("execution_success", "execution_error", "execution_interrupted")


class ProgressTracker:
    """Follows the messages of one prompt. One thread feeds it, another one asks."""

    def __init__(self, prompt_id: str, workflow: Mapping[str, Any]) -> None:
        self._prompt_id = prompt_id
        self._lock = threading.Lock()
        self._weights = {node: _weight(parts) for node, parts in workflow.items()}
        self._samplers = [node for node, weight in self._weights.items() if weight > NODE_WEIGHT]
        #: By node: 0 to 1.
        self._done: dict[str, float] = {}
        self._running = ""
        self._step = self._steps = 0
        self._preview = b""
        self._started_at = 0.0
        #: Whether the prompt's own end was told.
        self.over = False

    @property
    def started(self) -> bool:
        """Return whether the prompt has begun."""
        return bool(self._started_at)

    def feed(self, message: Message, *, has_metadata: bool) -> bool:
        """Note a message; return whether it was about this prompt.

        ``has_metadata``: previews name their prompt. One that does not is ours only while our prompt runs: one prompt
        runs at a time, but a neighbour's previews without an id go to all sockets.
        """
        with self._lock:
            if message.type == "preview":
                ours = message.prompt_id == self._prompt_id
                if not message.prompt_id and not has_metadata:
                    ours = bool(self._started_at) and not self.over
                if ours:
                    self._preview = message.image
                return ours
            if message.prompt_id != self._prompt_id:
                return False
            if not self._started_at:
                self._started_at = time.monotonic()
            self._note(message)
            return True

    def _note(self, message: Message) -> None:
        data = message.data
        if message.type == "execution_cached":
            self._finish(data.get("nodes"))
        elif message.type == "executing":
            self._enter(data.get("node"))
        elif message.type == "progress":
            self._advance(data.get("node"), data.get("value"), data.get("max"))
        elif message.type == "executed":
            self._finish([data.get("node")])
        elif message.type in _ENDS:
            self.over = True

    def _enter(self, node: Any) -> None:
        """Note that a node begins: the one before is done. None: the prompt has ended, and its history is written."""
        if self._running:
            self._done[self._running] = 1.0
        self._running = ""
        if node is None:
            self.over = True
        elif isinstance(node, str) and node in self._weights:
            self._running = node

    def _finish(self, nodes: Any) -> None:
        if isinstance(nodes, list):
            for node in nodes:
                if isinstance(node, str) and node in self._weights:
                    self._done[node] = 1.0

    def _advance(self, node: Any, value: Any, most: Any) -> None:
        if not isinstance(node, str) or node not in self._weights:
            return
        if not _is_number(value) or not _is_number(most) or most <= 0:
            return
        self._done[node] = min(max(value / most, 0.0), 1.0)
        self._running = node
        self._step, self._steps = int(min(max(value, 0), MAX_STEPS)), int(min(most, MAX_STEPS))

    def report(self) -> dict[str, Any] | None:
        """Return the progress as the WebUI's is returned (``current_image``: bytes); None before it began."""
        with self._lock:
            if not self._started_at:
                return None
            total = sum(self._weights.values())
            done = sum(self._weights[node] * part for node, part in self._done.items())
            progress = min(done / total, 1.0) if total else 0.0
            eta_s = 0.0
            if progress > 0:
                eta_s = (time.monotonic() - self._started_at) * (1 - progress) / progress
            finished = sum(1 for node in self._samplers if self._done.get(node) == 1.0)
            return {
                "progress": round(progress, 3),
                "eta_s": round(eta_s, 1),
                "step": self._step,
                "steps": self._steps,
                "job": finished,
                "jobs": max(len(self._samplers), 1),
                "current_image": self._preview,
            }


def _weight(node: Any) -> float:
    """Return a node's weight: its steps, if its inputs name some."""
    inputs = node.get("inputs") if isinstance(node, dict) else None
    steps = inputs.get("steps") if isinstance(inputs, dict) else None
    if isinstance(steps, int) and not isinstance(steps, bool) and steps > 0:
        return NODE_WEIGHT + min(steps, MAX_STEPS)
    return NODE_WEIGHT


def _is_number(value: Any) -> bool:
    """Return whether a message's value is a number that can be computed with; NaN compares as none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST
