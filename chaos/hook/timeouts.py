"""Shorter time-outs than graycat's own, so that what waits for one is seen in seconds: no setting changes these.

Each is what a process waits for before it takes over what another has left. None may be shorter than what it guards:
receivers and engines of the harness answer at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: By module: names of numbers, and what they become.
SHORTER: dict[str, dict[str, float]] = {
    "graycat.webhooks.deliveries": {"HOLD_MS": 2_000, "BEGIN_TIMEOUT_MS": 4_000},
    "graycat.batches.runner.runner": {"LOCK_TIMEOUT_S": 2.0},
    "graycat.worker.web_disconnects": {"GONE_AFTER_S": 1.0},
    "celeryconfig": {"BEAT_LOCK_S": 2.0},
}


def changes() -> dict[str, Callable[[Any], None]]:
    """Return what is changed in which module. A name that is not there raises KeyError: the process does not start."""

    def shorten(numbers: dict[str, float]) -> Callable[[Any], None]:
        def change(module: Any) -> None:
            for name, number in numbers.items():
                before = vars(module)[name]
                setattr(module, name, type(before)(number))

        return change

    return {name: shorten(numbers) for name, numbers in SHORTER.items()}
