"""A task that was handed to a server: look at it, wait for it, follow it, cancel it, fetch what it made."""

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

from graycat.client.calls import Caller, object_in
from graycat.client.errors import DamagedImage, InvalidArgument, WaitTimeout
from graycat.client.feed import Feed
from graycat.client.views import Event, Image, TaskView, place_of

#: A long poll's length in seconds: proxies give silent requests up after a minute.
LONG_POLL_S = 30.0
#: The same where somebody wants to see the progress.
PROGRESS_POLL_S = 1.0
#: A long poll's answer may be this many seconds late.
LATE_S = 15.0
#: How often an image is fetched that does not arrive as it was sent.
FETCHES = 3

_TASK_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SHA256 = re.compile(r'(?:W/)?"([0-9a-f]{64})"')


def task_path(task_id: str) -> str:
    """Return a task's address on its server. Raises InvalidArgument for what is no id."""
    if not _TASK_ID.fullmatch(task_id) or not task_id.strip("."):
        raise InvalidArgument(f"{task_id[:80]!r}: a task's id has 1 to 64 letters, digits, dots, dashes, underscores")
    return f"/tasks/{task_id}"


class Task:
    """A task on its server. ``view`` is what was last heard of it; only methods that say so ask again."""

    def __init__(self, caller: Caller, view: TaskView, *, etag: str = "", whole: bool = False) -> None:
        self._caller = caller
        self._path = task_path(view.id)
        self._view = view
        #: Of the view; '' where there is none, or it would hide what is still to be told.
        self._etag = etag
        #: Whether the view would hold the answer, too.
        self._whole = whole

    def __repr__(self) -> str:
        return f"<Task {self.id} {self._view.kind} {self.state}>"

    @classmethod
    def from_response(cls, caller: Caller, response: requests.Response) -> Task:
        """Return the task that an answer tells of. Raises UnexpectedReply."""
        view = TaskView.from_json(object_in(response))
        return cls(caller, view, etag=response.headers.get("ETag", ""), whole=True)

    @property
    def id(self) -> str:
        """Return the id, which outlives this object: ``Client.task`` finds the task again."""
        return self._view.id

    @property
    def view(self) -> TaskView:
        """Return what was last heard of the task."""
        return self._view

    @property
    def state(self) -> str:
        """Return the state that was last heard of."""
        return self._view.state

    @property
    def done(self) -> bool:
        """Tell whether the task is known to have ended."""
        return self._view.done

    def refresh(self) -> Task:
        """Look at the task again; a server where nothing has changed sends next to nothing."""
        self._look()
        return self

    def wait(self, timeout_s: float | None = None, on_progress: Callable[[TaskView], None] | None = None) -> Task:
        """Return when the task has ended, however it did. ``on_progress`` gets every change, once a second at most.

        Raises WaitTimeout after ``timeout_s``; the task goes on then.
        """
        deadline = None if timeout_s is None else monotonic() + timeout_s
        while not (self.done and self._whole):
            left_s = LONG_POLL_S if deadline is None else deadline - monotonic()
            if left_s <= 0:
                raise WaitTimeout(f"the task {self.id} has not ended within {timeout_s:g} s")
            changed = self._look(min(left_s, PROGRESS_POLL_S if on_progress else LONG_POLL_S), deadline)
            if changed and on_progress:
                on_progress(self._view)
        return self

    def _look(self, wait_s: float = 0.0, deadline: float | None = None) -> bool:
        """Look at the task, once it has ended or ``wait_s`` has passed; tell whether anything has changed."""
        options: dict[str, Any] = {"headers": {"If-None-Match": self._etag}} if self._etag else {}
        if wait_s:
            options |= {"params": {"wait": f"{wait_s:.3f}"}, "read_s": wait_s + LATE_S}
        if deadline is not None:
            options["until"] = min(deadline, monotonic() + self._caller.patience_s)
        response = self._caller.call("GET", self._path, **options)
        if response.status_code == 304:
            return False
        self._take(TaskView.from_json(object_in(response)), response.headers.get("ETag", ""), whole=True)
        return True

    def _take(self, view: TaskView, etag: str, *, whole: bool) -> None:
        self._view, self._etag, self._whole = view, etag, whole

    def answer(self, timeout_s: float | None = None) -> Any:
        """Wait for what the engine answers and return it; a streamed answer is a list of its events as text.

        Raises what the task failed with (an ApiError), TaskCancelled, WaitTimeout.
        """
        view = self.wait(timeout_s).view
        if view.problem is not None:
            raise view.problem
        return view.result if view.result is not None else list(view.events)

    def events(self, after: str | None = None) -> Iterator[Event]:
        """Yield the task's events as they come, from the first or from behind the id ``after``, up to its last.

        A lost connection is taken up again where it broke: no event is missed, none comes twice. Events that the
        server has forgotten do not come. Raises ApiError, Unreachable; InvalidArgument for what is no event's id.
        """
        if after:
            place_of(after)
        return Feed(self._caller, self, f"{self._path}/events", after or "").events()

    def cancel(self) -> bool:
        """Have the task stop; harmless where it has. Tell whether it is over, its engine free of it."""
        response = self._caller.call("POST", f"{self._path}/cancel")
        told = object_in(response)
        # The answer is not in it; a tag would hide that.
        self._take(TaskView.from_json(told), "", whole=False)
        return bool(told.get("confirmed"))

    def retry(self, *, idempotency_key: str | None = None) -> Task:
        """Submit a task again that failed, expired or was cancelled; return the new one. Raises NotRetryable."""
        headers = {"Idempotency-Key": idempotency_key or uuid4().hex}
        return Task.from_response(self._caller, self._caller.call("POST", f"{self._path}/retry", headers=headers))

    def images(self) -> Iterator[Image]:
        """Yield the task's images once it has ended, also those that there were when it was cancelled.

        Raises what the task failed with, DamagedImage, TaskNotFound for images that are no longer kept.
        """
        view = self.wait().view
        if view.problem is not None and view.partial_result is None:
            raise view.problem
        for number in view.images:
            yield self._image(number)

    def _image(self, number: int) -> Image:
        for _ in range(FETCHES):
            headers = {"Accept-Encoding": "identity"}
            response = self._caller.call("GET", f"{self._path}/images/{number}", headers=headers)
            tag = _SHA256.fullmatch(response.headers.get("ETag", ""))
            # Without one (a proxy may take it away) its length was right, or there would be no response.
            if tag is None or sha256(response.content).hexdigest() == tag[1]:
                return Image(number, response.headers.get("Content-Type", "").partition(";")[0], response.content)
        raise DamagedImage(f"image {number} of the task {self.id} does not arrive as the server has it")

    def download(self, folder: str | os.PathLike[str], pattern: str = "{id}-{n}.{ext}") -> list[Path]:
        """Write the task's images to files of a folder and return them; a file is there whole or not at all.

        ``pattern`` makes their names, of ``id``, ``n`` (from 0) and ``ext``. What has such a name is replaced.
        Raises InvalidArgument for a pattern that leads elsewhere or gives two images one name, and what ``images``
        raises.
        """
        numbers = self.wait().view.images
        names = {file_name(pattern, self.id, number, "png") for number in numbers}
        if len(names) < len(numbers):
            raise InvalidArgument(f"{pattern!r} gives several images one name: it needs {{n}}")
        return [
            written(Path(folder) / file_name(pattern, self.id, image.number, image.extension), image.data)
            for image in self.images()
        ]


def file_name(pattern: str, task_id: str, number: int, extension: str) -> str:
    """Return the name of an image's file. Raises InvalidArgument for a pattern that makes none."""
    try:
        name = pattern.format(id=task_id, n=number, ext=extension)
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise InvalidArgument(f"{pattern!r} may hold {{id}}, {{n}} and {{ext}}: {error}") from None
    if Path(name).name != name:
        raise InvalidArgument(f"{name!r} is no file's name")
    return name


def written(path: Path, data: bytes) -> Path:
    """Write a file that nobody sees before it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        with draft.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
