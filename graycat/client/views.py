"""What a client knows of a task: plain values, as of one moment. Fields are those of ``GET /tasks/{id}``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from graycat.client.errors import ApiError, InvalidArgument, TaskCancelled, UnexpectedReply, error_of
from graycat.client.texts import text_of_answer, text_of_chunk

#: States that a task does not leave.
ENDED = frozenset({"succeeded", "failed", "cancelled", "expired"})
#: Kinds of events that end a task.
LAST_EVENTS = frozenset({"result", "error", "cancelled"})

_EVENT_ID = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?")
_IMAGE_ADDRESS = re.compile(r"/images/([0-9]+)$")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a render is. ``fraction`` is 0 to 1, ``eta_s`` the seconds that the engine expects to need."""

    fraction: float
    eta_s: float | None = None
    step: int = 0
    steps: int = 0
    job: int = 0
    jobs: int = 0
    #: Whether ``GET /tasks/{id}/preview`` has an image.
    preview: bool = False

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Progress:
        """Return what a record's or an event's ``progress`` tells."""
        known = {name: value[name] for name in ("step", "steps", "job", "jobs") if name in value}
        fraction = float(value.get("progress", 0.0))
        return cls(fraction, value.get("eta_s"), preview=bool(value.get("preview")), **known)


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task as of one moment. Times that end in ``_ms`` are milliseconds since 1970, those in ``_s`` seconds."""

    id: str
    #: Such as ``llm.completion`` or ``sd.txt2img``.
    kind: str
    #: queued, running, succeeded, failed, cancelled or expired.
    state: str
    priority: str = ""
    queue: str = ""
    #: How many workers have begun it.
    attempt: int = 0
    worker: str = ""
    engine: str = ""
    request_id: str = ""
    #: The id of the failed task that this one repeats.
    retry_of: str = ""
    submitted_ms: int | None = None
    started_ms: int | None = None
    first_event_ms: int | None = None
    finished_ms: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress | None = None
    #: While it waits: 1 is next; and the seconds until a worker is likely to take it.
    queue_position: int | None = None
    eta_s: float | None = None
    #: At its end: the HTTP status and one of the four: what the engine answered, what there was when it was cancelled,
    #: the error, or a streamed answer's events as the engine wrote them.
    status: int | None = None
    result: Any = None
    partial_result: Any = None
    error: Any = None
    events: tuple[str, ...] = ()
    #: All that the server told, unchanged.
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TaskView:
        """Return what the server tells of a task. Raises UnexpectedReply."""
        known = {name: value[name] for name in _FIELDS if value.get(name) is not None}
        try:
            if "progress" in known:
                known["progress"] = Progress.from_json(known["progress"])
            known["events"] = tuple(known.get("events", ()))
            return cls(**known, raw=dict(value))
        except (TypeError, ValueError, AttributeError):
            raise UnexpectedReply("the server told nothing of a task where it should have") from None

    @property
    def done(self) -> bool:
        """Tell whether the task has ended, however it did."""
        return self.state in ENDED

    @property
    def text(self) -> str:
        """Return the text of the answer; '' where it has none."""
        return text_of_answer(self.result if self.result is not None else self.partial_result)

    @property
    def images(self) -> tuple[int, ...]:
        """Return the numbers of the answer's images, counted from 0."""
        answer = self.result if self.result is not None else self.partial_result
        if not isinstance(answer, dict):
            return ()
        listed = answer.get("images")
        images = [*(listed if isinstance(listed, list) else ()), answer.get("image")]
        addresses = [str(image.get("url")) for image in images if isinstance(image, dict)]
        return tuple(int(found[1]) for address in addresses if (found := _IMAGE_ADDRESS.search(address)))

    @property
    def problem(self) -> ApiError | None:
        """Return why there is no answer, or None."""
        if self.error is not None:
            return error_of(self.status or 500, self.error)
        if self.state == "cancelled":
            return TaskCancelled(499, TaskCancelled.type, "the task was cancelled")
        return error_of(500, f"the task {self.state}") if self.state in ("failed", "expired") else None


_FIELDS = tuple(f.name for f in fields(TaskView) if f.name != "raw")


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a task: ``started``, ``chunk``, ``progress``, ``result``, ``error`` or ``cancelled``.

    ``id`` is where to go on behind it; '' is the server speaking for itself. ``data`` is what the engine sent for a
    chunk, else what the event tells of the task.
    """

    id: str
    kind: str
    data: Any

    @classmethod
    def from_json(cls, value: Any) -> Event:
        """Return the event of one line. Raises UnexpectedReply."""
        try:
            event = cls(str(value["id"]), str(value["event"]), value["data"])
            if event.id:
                place_of(event.id)
        except (TypeError, KeyError, InvalidArgument):
            raise UnexpectedReply("the server sent an event that is none") from None
        return event

    @property
    def last(self) -> bool:
        """Tell whether it ends its task."""
        return self.kind in LAST_EVENTS

    @property
    def text(self) -> str:
        """Return the text that a chunk adds to the answer."""
        return text_of_chunk(self.data) if self.kind == "chunk" else ""

    @property
    def progress(self) -> Progress | None:
        """Return how far the render is, where the event tells."""
        return Progress.from_json(self.data) if self.kind == "progress" else None


def place_of(event_id: str) -> tuple[int, int]:
    """Return the place of an event among its task's. Raises InvalidArgument."""
    found = _EVENT_ID.fullmatch(event_id)
    if not found:
        raise InvalidArgument(f"{event_id[:60]!r} is no event's id")
    return int(found[1]), int(found[2] or 0)


@dataclass(frozen=True, slots=True)
class Image:
    """A finished image. ``number`` counts a task's images from 0; ``data`` is the file as the engine made it."""

    number: int
    content_type: str
    data: bytes = field(repr=False)

    @property
    def extension(self) -> str:
        """Return what such a file's name ends with."""
        return {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}.get(self.content_type, "bin")
