"""What a task record is made of, and what a worker holds while it runs the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from graycat.broker.keys import events_key, record_key

#: How a task may end. Scripts (``is_terminal`` in ``broker/lua/prelude.lua``) and the client, which stands alone, have
#: lists of their own; ``tests/unit/queue/test_models.py`` compares them.
TERMINAL_STATES = ("succeeded", "failed", "cancelled", "expired")
#: Every state of a task.
STATES = ("queued", "running", *TERMINAL_STATES)
#: How a task ends that did not give its caller what it asked for.
UNSUCCESSFUL_STATES = TERMINAL_STATES[1:]


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to create. ``body`` goes to the engine; ``channel`` is that of the web process that waits for it."""

    id: str
    kind: str
    mode: str
    queue: str
    body: bytes
    owner: str
    channel: str = ""
    request_id: str = ""
    #: Seconds; None: as in the settings.
    queue_ttl_s: float | None = None
    exec_timeout_s: float | None = None
    #: Further fields, if its caller polls it by its id. Such a task is on its owner's list, and keeps its body for a
    #: retry if that is small.
    shown: Mapping[str, str] | None = None
    #: Whether it counts as its owner's: in the list of tasks, in the limits, among the renders.
    counted: bool = True
    #: The ids that its name stands for in other families of engines: while one is taken, it is not created.
    rivals: Sequence[str] = ()
    #: Its webhook (``Webhook.to_json``), and the caller's own notes (JSON); '' for none.
    webhook: str = ""
    metadata: str = ""


@dataclass(slots=True)
class Made:
    """What an attempt has had its engine make so far, by the engine's own count; written when the attempt ends."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    images: int = 0

    @property
    def amounts(self) -> tuple[int, int, int]:
        """Return the amounts in the order of ``queue/lua/usage.lua``."""
        return self.prompt_tokens, self.completion_tokens, self.images


@dataclass(frozen=True)
class Attempt:
    """A worker's hold on a task.

    ``resumed``: an earlier attempt has published a part of its answer, which a client may have seen. ``started_id``:
    the id of its ``started`` event, or of ``restarted`` if it begins the answer anew. The ids of its chunks follow from
    it and from their numbers, so that a chunk which is sent twice is written once.
    """

    task_id: str
    number: int
    kind: str
    mode: str
    body: bytes
    exec_timeout_s: float
    request_id: str
    resumed: bool
    started_id: str
    owner: str
    queue: str = ""
    #: Seconds in the queue, for a further attempt since the task was enqueued again.
    waited_s: float = field(default=0.0, compare=False)
    #: At how many deaths of engines it was there.
    deaths: int = field(default=0, compare=False)
    #: Channels of the web processes that waited for it when it was claimed.
    channels: tuple[str, ...] = ()
    #: Whether its owner looks at it by its id, so that it goes on if no web process waits for it.
    kept: bool = False
    #: Chunks of earlier attempts, which this one continues.
    earlier: tuple[bytes, ...] = ()
    #: Shared with the attempts that are made of this one by ``dataclasses.replace``.
    made: Made = field(default_factory=Made, compare=False)

    @cached_property
    def address(self) -> tuple[tuple[str, str], tuple[int, str, str], int]:
        """Return what publishing needs, computed once: keys, the fence, and the number that chunks are counted from."""
        milliseconds, _, number = self.started_id.partition("-")
        keys = (record_key(self.task_id), events_key(self.task_id))
        return keys, (self.number, self.task_id, f"{milliseconds}-"), int(number)


@dataclass(frozen=True, slots=True)
class ChunkBatch:
    """Chunks of an attempt's answer that arrived together; ``number`` is that of the first, counted from 1."""

    attempt: Attempt
    number: int
    chunks: Sequence[bytes]


class ReleaseReason(StrEnum):
    """Why an attempt is handed back to the queue; ``queue/lua/release.lua`` knows these words."""

    #: The task itself may be at fault: it counts towards the attempts that a task has.
    CHARGED = "charged"
    #: The task is not at fault: its worker stops.
    FREE = "free"
    #: It shared an engine that died. Which task ended it cannot be told.
    ENGINE_DIED = "engine died"
    #: It had the engine to itself when that died.
    ENGINE_DIED_ALONE = "engine died alone"


class Verdict(StrEnum):
    """What an attempt must do after it published or renewed its lease."""

    GO_ON = "ok"
    CANCEL = "cancel"
    #: End, with the part of the answer that exists.
    INTERRUPT = "interrupt"
    #: Another attempt owns the task.
    STALE = "stale"

    @classmethod
    def _missing_(cls, _value: object) -> Verdict:
        # A newer release may ask a task to stop in a way that is not known here. An error would end all streams.
        return cls.CANCEL
