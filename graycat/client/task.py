"""A task on its server: follow it, wait for its answer, cancel it, download its images."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import requests

from graycat.client.errors import DamagedImage, InvalidArgument, WaitTimeout
from graycat.client.events import EventStream
from graycat.client.files import image_file_name, write_atomically
from graycat.client.http import HttpTransport, parse_object
from graycat.client.views import Event, Image, TaskView, parse_event_id

#: Length of a long poll in seconds: proxies give up on silent requests after a minute.
LONG_POLL_S = 30.0
#: The same while the caller wants to see the progress.
PROGRESS_POLL_S = 1.0
#: Seconds that the answer of a long poll may be late.
LONG_POLL_MARGIN_S = 15.0
#: How often an image is fetched if it does not arrive as the server has it.
MAX_FETCHES = 3

_TASK_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SHA256 = re.compile(r'(?:W/)?"([0-9a-f]{64})"')


def task_path(task_id: str) -> str:
    """Return a task's path on its server. Raises InvalidArgument for an id that no task can have."""
    if not _TASK_ID.fullmatch(task_id) or not task_id.strip("."):
        raise InvalidArgument(f"{task_id[:80]!r}: a task's id has 1 to 64 letters, digits, dots, dashes, underscores")
    return f"/tasks/{task_id}"


class Task:
    """A task on its server. ``view`` is its last known state; only methods that say so fetch it again."""

    def __init__(self, transport: HttpTransport, view: TaskView, *, etag: str = "", whole: bool = False) -> None:
        self._transport = transport
        self._path = task_path(view.id)
        self._view = view
        #: The view's ``ETag``; '' if there is none, or if a 304 would hide the answer.
        self._etag = etag
        #: Whether the view would include the answer of a task that has ended.
        self._whole = whole

    def __repr__(self) -> str:
        return f"<Task {self.id} {self._view.kind} {self.state}>"

    @classmethod
    def from_response(cls, transport: HttpTransport, response: requests.Response) -> Task:
        """Return the task that an answer describes. Raises UnexpectedReply."""
        view = TaskView.from_json(parse_object(response))
        return cls(transport, view, etag=response.headers.get("ETag", ""), whole=True)

    @property
    def id(self) -> str:
        """Return the id, which outlives this object: ``Client.task`` finds the task again."""
        return self._view.id

    @property
    def view(self) -> TaskView:
        """Return the last known state of the task, with all its fields."""
        return self._view

    @property
    def state(self) -> str:
        """Return the last known state, such as ``running``."""
        return self._view.state

    @property
    def done(self) -> bool:
        """Return whether the task is known to have ended."""
        return self._view.done

    def refresh(self) -> Task:
        """Fetch the task's state again. If nothing has changed, the server sends next to nothing (304)."""
        self._fetch()
        return self

    def wait(self, timeout_s: float | None = None, on_progress: Callable[[TaskView], None] | None = None) -> Task:
        """Wait until the task has ended in any state. ``on_progress`` gets every change, at most once a second.

        Raises WaitTimeout after ``timeout_s``; the task goes on then.
        """
        deadline = None
        if timeout_s is not None:
            deadline = monotonic() + timeout_s
        poll_s = LONG_POLL_S
        if on_progress is not None:
            poll_s = PROGRESS_POLL_S

        while not (self.done and self._whole):
            wait_s = poll_s
            if deadline is not None:
                wait_s = min(poll_s, deadline - monotonic())
            if wait_s <= 0:
                raise WaitTimeout(f"the task {self.id} has not ended within {timeout_s:g} s")
            changed = self._fetch(wait_s, deadline)
            if changed and on_progress is not None:
                on_progress(self._view)
        return self

    def _fetch(self, wait_s: float = 0.0, deadline: float | None = None) -> bool:
        """Fetch the state, once the task has ended or ``wait_s`` has passed; return whether anything has changed."""
        options: dict[str, Any] = {}
        if self._etag:
            options["headers"] = {"If-None-Match": self._etag}
        if wait_s:
            options["params"] = {"wait": f"{wait_s:.3f}"}
            options["read_s"] = wait_s + LONG_POLL_MARGIN_S
        if deadline is not None:
            options["until"] = min(deadline, monotonic() + self._transport.patience_s)
        response = self._transport.request("GET", self._path, **options)
        if response.status_code == 304:
            return False
        self._update(TaskView.from_json(parse_object(response)), response.headers.get("ETag", ""), whole=True)
        return True

    def _update(self, view: TaskView, etag: str, *, whole: bool) -> None:
        self._view = view
        self._etag = etag
        self._whole = whole

    def answer(self, timeout_s: float | None = None) -> Any:
        """Wait for the engine's answer and return it; a streamed answer is a list of its events as text.

        Raises what the task failed with (an ApiError), TaskCancelled, WaitTimeout.
        """
        view = self.wait(timeout_s).view
        if view.problem is not None:
            raise view.problem
        if view.result is not None:
            return view.result
        return list(view.events)

    def events(self, after: str | None = None) -> Iterator[Event]:
        """Yield the task's events as they come, from the first or after the event with the id ``after``, to its last.

        After a lost connection the stream continues where it broke: no event is missed, none comes twice. Events that
        the server no longer keeps do not come. Raises ApiError, Unreachable; InvalidArgument for an invalid ``after``.
        """
        if after:
            parse_event_id(after)
        return EventStream(self._transport, self, f"{self._path}/events", after or "").events()

    def cancel(self) -> bool:
        """Cancel the task; harmless if it has ended. Return whether it is over and its engine is free of it."""
        answer = parse_object(self._transport.request("POST", f"{self._path}/cancel"))
        # The partial answer is not in it. With an ETag, the next fetch could be a 304 without it.
        self._update(TaskView.from_json(answer), "", whole=False)
        return bool(answer.get("confirmed"))

    def retry(self, *, idempotency_key: str | None = None) -> Task:
        """Submit the task again if it failed, expired or was cancelled; return the new task. Raises NotRetryable."""
        headers = {"Idempotency-Key": idempotency_key or uuid4().hex}
        response = self._transport.request("POST", f"{self._path}/retry", headers=headers)
        return Task.from_response(self._transport, response)

    def images(self) -> Iterator[Image]:
        """Wait for the task's end and yield its images, also those that a cancelled task had finished.

        Raises what the task failed with, DamagedImage, TaskNotFound if the server no longer keeps the images.
        """
        view = self.wait().view
        if view.problem is not None and view.partial_result is None:
            raise view.problem
        for number in view.images:
            yield self._image(number)

    def _image(self, number: int) -> Image:
        headers = {"Accept-Encoding": "identity"}
        for _ in range(MAX_FETCHES):
            response = self._transport.request("GET", f"{self._path}/images/{number}", headers=headers)
            digest = _SHA256.fullmatch(response.headers.get("ETag", ""))
            # A proxy may remove the ETag. The length was right then, or requests would have raised an error.
            if digest is None or sha256(response.content).hexdigest() == digest[1]:
                content_type, _, _ = response.headers.get("Content-Type", "").partition(";")
                return Image(number, content_type, response.content)
        raise DamagedImage(f"image {number} of the task {self.id} does not arrive as the server has it; try again")

    def download(self, folder: str | os.PathLike[str], pattern: str = "{id}-{n}.{ext}") -> list[Path]:
        """Write the task's images to files of a folder and return their paths. No file is ever there in part.

        ``pattern`` makes their names from ``id``, ``n`` (from 0) and ``ext``. An existing file of the name is replaced.
        Raises InvalidArgument for a pattern that leaves the folder or gives two images one name, and what ``images``
        raises.
        """
        numbers = self.wait().view.images
        names = {image_file_name(pattern, self.id, number, "png") for number in numbers}
        if len(names) < len(numbers):
            raise InvalidArgument(f"{pattern!r} gives several images one name: it needs {{n}}")
        paths = []
        for image in self.images():
            name = image_file_name(pattern, self.id, image.number, image.extension)
            paths.append(write_atomically(Path(folder) / name, image.data))
        return paths
