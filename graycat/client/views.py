"""What a client knows of a task at one moment, as plain values. Fields are those of ``GET /tasks/{id}``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from graycat.client.error_parsing import build_error
from graycat.client.errors import ApiError, InvalidArgument, TaskCancelled, UnexpectedReply
from graycat.client.texts import answer_text, chunk_text

#: States that a task does not leave.
ENDED = frozenset({"succeeded", "failed", "cancelled", "expired"})
#: Kinds of events that end a task.
LAST_EVENTS = frozenset({"result", "error", "cancelled"})

_EVENT_ID = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?")
_IMAGE_URL = re.compile(r"/images/([0-9]+)$")


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
        """Return the progress that a task's or an event's JSON describes."""
        known = {name: value[name] for name in ("step", "steps", "job", "jobs") if name in value}
        fraction = float(value.get("progress", 0.0))
        return cls(fraction, value.get("eta_s"), preview=bool(value.get("preview")), **known)


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task at one moment. Times that end in ``_ms`` are milliseconds since 1970, those in ``_s`` seconds."""

    id: str
    #: Such as ``llm.completion`` or ``sd.txt2img``.
    kind: str
    #: queued, running, succeeded, failed, cancelled or expired.
    state: str
    priority: str = ""
    queue: str = ""
    #: How many workers have started the task so far.
    attempt: int = 0
    worker: str = ""
    engine: str = ""
    request_id: str = ""
    #: The id of the failed task that this one repeats.
    retry_of: str = ""
    #: Whose it is, if it is another caller's: admins see those.
    owner: str = ""
    submitted_ms: int | None = None
    started_ms: int | None = None
    first_event_ms: int | None = None
    finished_ms: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress | None = None
    #: While the task waits: its position, 1 is next; and the seconds until a worker is likely to take it.
    queue_position: int | None = None
    eta_s: float | None = None
    #: Why these seconds are not known.
    eta_reason: str = ""
    #: After its end: the HTTP status, and one of four: the engine's answer, the part of it that a cancelled task has,
    #: the error, or the events of a streamed answer as the engine wrote them.
    status: int | None = None
    result: Any = None
    partial_result: Any = None
    error: Any = None
    events: tuple[str, ...] = ()
    #: The server's JSON object, unchanged.
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TaskView:
        """Return the task that the server's JSON describes. Raises UnexpectedReply."""
        known = {name: value[name] for name in _FIELDS if value.get(name) is not None}
        try:
            if "progress" in known:
                known["progress"] = Progress.from_json(known["progress"])
            known["events"] = tuple(known.get("events", ()))
            return cls(**known, raw=dict(value))
        except (TypeError, ValueError, AttributeError):
            raise UnexpectedReply("the server did not describe a task where it should have") from None

    @property
    def done(self) -> bool:
        """Return whether the task has ended in any state."""
        return self.state in ENDED

    @property
    def text(self) -> str:
        """Return the text of the answer; '' if it has none."""
        return answer_text(self._answer)

    @property
    def _answer(self) -> Any:
        if self.result is not None:
            return self.result
        return self.partial_result

    @property
    def images(self) -> tuple[int, ...]:
        """Return the numbers of the answer's images, counted from 0."""
        answer = self._answer
        if not isinstance(answer, dict):
            return ()
        images = []
        if isinstance(answer.get("images"), list):
            images.extend(answer["images"])
        images.append(answer.get("image"))

        numbers = []
        for image in images:
            if isinstance(image, dict):
                match = _IMAGE_URL.search(str(image.get("url")))
                if match is not None:
                    numbers.append(int(match[1]))
        return tuple(numbers)

    @property
    def problem(self) -> ApiError | None:
        """Return the error that stands in place of an answer, or None."""
        if self.error is not None:
            return build_error(self.status or 500, self.error)
        if self.state == "cancelled":
            return TaskCancelled(499, TaskCancelled.type, "the task was cancelled")
        if self.state in ("failed", "expired"):
            return build_error(500, f"the task {self.state}")
        return None


_FIELDS = tuple(f.name for f in fields(TaskView) if f.name != "raw")


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a task: ``started``, ``chunk``, ``restarted``, ``progress``, ``result``, ``error``, ``cancelled``.

    ``restarted``: the answer begins anew, and the chunks before it are void.
    ``id``: give it as ``after`` to get the events behind this one; '' if the event is the server's and not the task's.
    ``data``: for a chunk what the engine sent, else what the event says about the task.
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
                parse_event_id(event.id)
        except (TypeError, KeyError, InvalidArgument):
            raise UnexpectedReply("the server sent an invalid event") from None
        return event

    @property
    def last(self) -> bool:
        """Return whether the event ends its task."""
        return self.kind in LAST_EVENTS

    @property
    def text(self) -> str:
        """Return the text that a chunk adds to the answer."""
        if self.kind == "chunk":
            return chunk_text(self.data)
        return ""

    @property
    def progress(self) -> Progress | None:
        """Return how far the render is; None if the event is not about that."""
        if self.kind == "progress":
            return Progress.from_json(self.data)
        return None


def parse_event_id(event_id: str) -> tuple[int, int]:
    """Return the two numbers of an event's id; a task's events are in their order. Raises InvalidArgument."""
    match = _EVENT_ID.fullmatch(event_id)
    if not match:
        raise InvalidArgument(f"{event_id[:60]!r} is not an event's id")
    return int(match[1]), int(match[2] or 0)


@dataclass(frozen=True, slots=True)
class Image:
    """A finished image. ``number`` counts a task's images from 0; ``data`` is the file as the engine made it."""

    number: int
    content_type: str
    data: bytes = field(repr=False)

    @property
    def extension(self) -> str:
        """Return the extension of such a file's name."""
        return {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}.get(self.content_type, "bin")
