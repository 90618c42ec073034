"""Names of queues, taken apart and put together in one place.

The grammar is ``FAMILY[.LANE][:MODEL | :@WORKER]``: ``llm``, ``llm.quick``, ``llm.batch:a-model``, ``sd:@sd@box``.
Scripts parse the same names in ``queue/lua/queue_names.lua``; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Lane(StrEnum):
    """How urgent the work of a queue is. Other words can come from the broker of a newer release: they are kept."""

    INTERACTIVE = ""
    #: Calls that need no slot of the engine.
    QUICK = "quick"
    #: Work for the gaps.
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class QueueName:
    """A queue: of a family, or within that of one model, or of one worker's engine alone."""

    family: str
    lane: str = Lane.INTERACTIVE
    model: str = ""
    worker: str = ""

    @classmethod
    def parse(cls, text: str) -> QueueName:
        """Return the parts of a queue's name. Any text is one: the families of a newer release are not known here."""
        base, _, target = text.partition(":")
        family, _, lane = base.partition(".")
        if target.startswith("@"):
            return cls(family, lane, worker=target[1:])
        return cls(family, lane, model=target)

    def __str__(self) -> str:
        if self.worker:
            return f"{self.base}:@{self.worker}"
        if self.model:
            return f"{self.base}:{self.model}"
        return self.base

    @property
    def base(self) -> str:
        """Return the shared queue that it belongs to, without a model or worker."""
        if self.lane:
            return f"{self.family}.{self.lane}"
        return self.family

    def in_lane(self, lane: Lane) -> QueueName:
        """Return the queue of the same model or worker in another lane."""
        return replace(self, lane=lane)

    def of_model(self, model: str) -> QueueName:
        """Return the queue, in the same lane, of tasks that only workers with a certain model may take."""
        return replace(self, model=model, worker="")

    def of_worker(self, worker: str) -> QueueName:
        """Return the queue, in the same lane, of tasks that are for one worker's engine alone."""
        return replace(self, model="", worker=worker)


def base_queue(queue: str) -> str:
    """Return the shared queue of a queue's name: ``llm.batch`` for ``llm.batch:a-model``."""
    return QueueName.parse(queue).base
