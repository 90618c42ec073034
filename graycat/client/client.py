"""The client of one server: submit tasks and find them again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal
from uuid import uuid4

from graycat.client.batches import Batches
from graycat.client.calls import Caller, object_in
from graycat.client.errors import InvalidArgument, UnexpectedReply
from graycat.client.schedules import Schedules
from graycat.client.task import Task, task_path
from graycat.client.views import TaskView

#: Tasks on one page of the list; more round trips than the server's most would need gain nothing.
PAGE = 100


class Client:
    """Hands tasks to a graycat server. Usable as a context manager; for one thread at a time.

    ``patience_s``: seconds for which each call is tried again while the server is away or says 503; a submit that was
    sent twice so is still one task. Nothing is read from the environment but what ``requests`` itself does (proxies).
    """

    def __init__(self, url: str = "http://127.0.0.1:8000", token: str = "", *, patience_s: float = 60.0) -> None:
        self._caller = Caller(url, token, patience_s)
        #: The batches of the API token.
        self.batches = Batches(self._caller)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the tasks go on."""
        self._caller.close()

    @property
    def url(self) -> str:
        """Return the server's address."""
        return self._caller.url

    @property
    def schedules(self) -> Schedules:
        """Return the schedules of the API token."""
        return Schedules(self._caller)

    def submit(
        self,
        kind: str,
        input: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        id: str | None = None,
        priority: Literal["interactive", "batch"] | None = None,
        queue_ttl_s: float | None = None,
        exec_timeout_s: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        webhook: Any = None,
    ) -> Task:
        """Hand a task to the server and return it; nobody has waited for anything but its acceptance.

        ``kind`` is such as ``llm.completion``, ``input`` what that engine's route takes. The same ``idempotency_key``
        or ``id`` (yours to choose: 1 to 64 letters, digits, dots, dashes, underscores) with the same content is the
        same task; without either a key is made for this call. ``queue_ttl_s``: seconds that it may wait;
        ``exec_timeout_s``: that it may run. ``metadata``: an object of up to 4 kB that comes back with the task.
        Raises ApiError (IdempotencyConflict, QueueFull, ...), Unreachable.
        """
        if id is not None and idempotency_key is not None:
            raise InvalidArgument("a task has an id of yours or an idempotency key, not both")
        given = {"kind": kind, "input": dict(input), "priority": priority, "metadata": metadata, "webhook": webhook}
        given |= {"queue_ttl_s": queue_ttl_s, "exec_timeout_s": exec_timeout_s}
        try:
            # Made once: the same bytes however often they are sent.
            body = json.dumps({k: value for k, value in given.items() if value is not None}, allow_nan=False).encode()
        except (ValueError, TypeError) as error:
            raise InvalidArgument(f"the task is no JSON: {error}") from None
        headers = {"Content-Type": "application/json"}
        if id is not None:
            return Task.from_response(self._caller, self._caller.call("PUT", task_path(id), data=body, headers=headers))
        headers["Idempotency-Key"] = idempotency_key or uuid4().hex
        return Task.from_response(self._caller, self._caller.call("POST", "/tasks", data=body, headers=headers))

    def task(self, task_id: str) -> Task:
        """Return a task by its id. Raises TaskNotFound, TaskGone, InvalidArgument for what is no id."""
        return Task.from_response(self._caller, self._caller.call("GET", task_path(task_id)))

    def tasks(
        self, state: str | Iterable[str] = (), kind: str | Iterable[str] = (), page: int = PAGE
    ) -> Iterator[Task]:
        """Yield your tasks, newest first: all, or those in some states or of some kinds; ``page`` at a time."""
        wanted = {"state": _listed(state), "kind": _listed(kind)}
        cursor: str | None = None
        while True:
            found = object_in(self._caller.call("GET", "/tasks", params={**wanted, "limit": page, "cursor": cursor}))
            rows, cursor = found.get("tasks"), found.get("next_cursor")
            if not isinstance(rows, list):
                raise UnexpectedReply(f"{self.url} did not answer as graycat does")
            for row in rows:
                yield Task(self._caller, TaskView.from_json(row))
            # A page may be empty and not be the last: the server looks at so many tasks a call.
            if not cursor:
                return

    def status(self) -> dict[str, Any]:
        """Return how the server and its fleet are doing, for an API token with the scope ``metrics`` or ``admin``."""
        return object_in(self._caller.call("GET", "/status"))


def _listed(value: str | Iterable[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
