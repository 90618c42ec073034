"""What earlier attempts at a task have published of its answer."""

from __future__ import annotations

from dataclasses import dataclass

from graycat.queue.errors import EventsGone
from graycat.queue.events import CHUNK
from graycat.queue.models import Attempt
from graycat.queue.positions import is_complete
from graycat.worker.runtime import EngineRuntime


@dataclass(frozen=True, slots=True)
class Published:
    """What attempts at a task have published of its answer. ``is_cut``: its first chunks are kept no longer."""

    chunks: list[bytes]
    is_cut: bool = False

    @classmethod
    def read(cls, runtime: EngineRuntime, attempt: Attempt) -> Published:
        """Return what is kept of it: the broker keeps the newest 20,000 events of a task or so."""
        try:
            found = runtime.records.events(attempt.task_id)
        except EventsGone:
            return cls([], is_cut=True)
        chunks = [event.data for event in found if event.kind == CHUNK]
        return cls(chunks, is_cut=bool(found) and not is_complete(found[:2]))
