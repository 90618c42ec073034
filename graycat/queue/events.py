"""Task events: their form in a task's stream, and in messages to the web processes that wait for them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from graycat.errors import EngineProtocolError

#: Kinds of events. ``chunk`` is one event of the engine, its bytes unchanged; ``progress`` says how far a render is;
#: ``restarted`` makes the chunks before it void. The last three end a task. Readers ignore kinds that they do not know.
STARTED: Final = "started"
RESTARTED: Final = "restarted"
CHUNK: Final = "chunk"
PROGRESS: Final = "progress"
RESULT: Final = "result"
ERROR: Final = "error"
CANCELLED: Final = "cancelled"
TERMINAL: Final = frozenset({RESULT, ERROR, CANCELLED})
#: The longest answer that a request or a poll gets. Images are not in it.
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_STATUS = re.compile(rb"[2-5][0-9][0-9]")


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One event of a task.

    ``id`` is the stream's own (``milliseconds-number``). ``data`` is the attempt's number for ``started`` and
    ``restarted``, the engine's bytes for ``chunk``, ``STATUS BODY`` for ``result`` and ``error`` (see ``answer``), else
    empty.
    """

    id: str
    kind: str
    data: bytes

    @property
    def terminal(self) -> bool:
        """Return whether this is the task's last event."""
        return self.kind in TERMINAL

    @property
    def order(self) -> tuple[int, int]:
        """Return its position in the stream, for comparisons."""
        return event_order(self.id)

    def answer(self) -> tuple[int, bytes]:
        """Return HTTP status and body of a ``result`` or ``error``.

        Raises EngineProtocolError if it has none: workers of a box may write anything.
        """
        status, _, body = self.data.partition(b" ")
        if not _STATUS.fullmatch(status) or len(body) > MAX_ANSWER_BYTES:
            raise EngineProtocolError
        return int(status), body

    @classmethod
    def from_push(cls, message: bytes) -> tuple[str, TaskEvent]:
        """Return task id and event of a pushed message (``queue/lua/task.lua`` writes it)."""
        task_id, event_id, kind, data = message.split(b" ", 3)
        return task_id.decode(), cls(event_id.decode(), kind.decode(), data)

    @classmethod
    def from_stream(cls, event_id: bytes, entry: dict[bytes, bytes]) -> TaskEvent:
        """Return the event of a stream entry."""
        # What lacks a part is of no kind that a reader knows.
        return cls(event_id.decode(), entry.get(b"kind", b"").decode(errors="replace"), entry.get(b"data", b""))


def answer(status: int, body: bytes) -> bytes:
    """Return the data of a ``result`` or ``error`` event."""
    return b"%d %b" % (status, body)


def event_order(event_id: str) -> tuple[int, int]:
    """Return the position in the stream that an event's id stands for."""
    milliseconds, _, number = event_id.partition("-")
    return int(milliseconds), int(number or 0)
