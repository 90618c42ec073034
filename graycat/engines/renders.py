"""Renders: one call to an image engine, with what may be asked of it while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from graycat.engines.client import Call
from graycat.images.habits import Habits


@dataclass(frozen=True, slots=True)
class RenderJob:
    """What is to be rendered. ``path``: the route of the WebUI's API that the body is for."""

    path: str
    body: bytes
    task_id: str
    attempt: int


class Render(Protocol):
    """One render. ``run`` blocks; another thread calls the other methods meanwhile. All raise EngineLost."""

    def run(self) -> tuple[int, bytes]:
        """Render; return HTTP status and body, as the WebUI's API answers."""

    def progress(self) -> dict[str, Any] | None:
        """Return how far it is; None if it is not known yet.

        ``{"progress": 0..1, "eta_s", "step", "steps", "job", "jobs", "current_image": base64, bytes or None}``.
        Raises NotImplementedError if the engine never tells.
        """

    def interrupt(self) -> bool:
        """Have it end with what it has; return whether the engine took that. May be repeated."""

    def is_whole(self) -> bool:
        """Return whether it is known to have made all, in spite of an interrupt; after ``run``."""

    def skip(self) -> None:
        """Have it leave out the rest of a batch, if the engine can do that."""

    def give_up(self) -> None:
        """Stop waiting for the engine: ``run`` raises EngineLost."""


@runtime_checkable
class ImageEngine(Protocol):
    """An engine that renders."""

    #: How it is unlike A1111.
    habits: Habits

    def start_render(self, job: RenderJob, call: Call) -> Render:
        """Return a render that has not begun. ``call``: tells whether it was stopped, and why."""
