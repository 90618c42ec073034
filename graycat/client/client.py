"""The client of one server: submits tasks and finds them again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal
from uuid import uuid4

from graycat.client.batches import Batches
from graycat.client.encoding import encode
from graycat.client.errors import InvalidArgument
from graycat.client.http import HttpTransport, parse_object, unexpected_reply
from graycat.client.schedules import Schedules
from graycat.client.task import Task, task_path
from graycat.client.views import TaskView

#: Tasks on one page of the list: as many as the server allows, to save round trips.
PAGE_SIZE = 100


class Client:
    """Submits tasks to a graycat server. It may be used as a context manager, and by one thread at a time.

    ``patience_s``: seconds for which each request is repeated while the server is away or answers 503. A submit that
    is sent twice is still one task. The environment is read by ``requests`` only, for proxies.
    """

    def __init__(self, url: str = "http://127.0.0.1:8000", token: str = "", *, patience_s: float = 60.0) -> None:
        self._transport = HttpTransport(url, token, patience_s)
        #: The batches of the API token.
        self.batches = Batches(self._transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the tasks go on."""
        self._transport.close()

    @property
    def url(self) -> str:
        """Return the server's address."""
        return self._transport.url

    @property
    def schedules(self) -> Schedules:
        """Return the schedules of the API token."""
        return Schedules(self._transport)

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
        """Submit a task and return it as soon as the server has accepted it.

        ``kind``: for example ``llm.completion``. ``input``: what that engine's route takes. The same
        ``idempotency_key`` or ``id`` (which you choose: 1 to 64 letters, digits, dots, dashes, underscores) with the
        same content is the same task; without either, this call makes a key. ``queue_ttl_s``: seconds that the task
        may wait. ``exec_timeout_s``: seconds that it may run. ``metadata``: an object of up to 4 kB that comes back
        with the task.
        Raises ApiError (IdempotencyConflict, QueueFull, ...), Unreachable.
        """
        if id is not None and idempotency_key is not None:
            raise InvalidArgument("give an id or an idempotency key, not both")
        fields = {
            "kind": kind,
            "input": dict(input),
            "priority": priority,
            "metadata": metadata,
            "webhook": webhook,
            "queue_ttl_s": queue_ttl_s,
            "exec_timeout_s": exec_timeout_s,
        }
        body = _encode(fields)
        headers = {"Content-Type": "application/json"}
        if id is not None:
            response = self._transport.request("PUT", task_path(id), data=body, headers=headers)
        else:
            headers["Idempotency-Key"] = idempotency_key or uuid4().hex
            response = self._transport.request("POST", "/tasks", data=body, headers=headers)
        return Task.from_response(self._transport, response)

    def task(self, task_id: str) -> Task:
        """Return a task by its id. Raises TaskNotFound, TaskGone, InvalidArgument."""
        return Task.from_response(self._transport, self._transport.request("GET", task_path(task_id)))

    def tasks(
        self,
        state: str | Iterable[str] = (),
        kind: str | Iterable[str] = (),
        page: int = PAGE_SIZE,
        owner: str | None = None,
    ) -> Iterator[Task]:
        """Yield your tasks, newest first: all, or those in some states or of some kinds; ``page`` at a time.

        ``owner``: whose, for an API token with the scope ``admin``: a name, ``NAME/*`` (its players), ``*`` (all).
        """
        query: dict[str, Any] = {"state": _as_list(state), "kind": _as_list(kind), "limit": page, "cursor": None}
        if owner is not None:
            query["owner"] = owner
        while True:
            answer = parse_object(self._transport.request("GET", "/tasks", params=query))
            rows = answer.get("tasks")
            if not isinstance(rows, list):
                raise unexpected_reply(self.url)
            for row in rows:
                yield Task(self._transport, TaskView.from_json(row))
            # An empty page need not be the last one: the server reads only so many tasks for each request.
            query["cursor"] = answer.get("next_cursor")
            if not query["cursor"]:
                return

    def status(self) -> dict[str, Any]:
        """Return the state of the server and its workers. The API token needs the scope ``metrics`` or ``admin``."""
        return parse_object(self._transport.request("GET", "/status"))

    def usage(self, first: str | None = None, last: str | None = None, owner: str | None = None) -> dict[str, Any]:
        """Return what the API token has used by day, as ``GET /usage`` answers; an admin gets what all have used.

        ``first``, ``last``: days such as ``2026-11-29`` (UTC); by default 30 days up to today. ``owner``: the name of
        another API token, for an admin.
        """
        query = {"from": first, "to": last, "owner": owner}
        return parse_object(self._transport.request("GET", "/usage", params=query))


def _encode(fields: Mapping[str, Any]) -> bytes:
    """Return a task's JSON, without the fields that are None. Raises InvalidArgument."""
    sent = {name: value for name, value in fields.items() if value is not None}
    return encode(sent, "the task")


def _as_list(value: str | Iterable[str]) -> list[str]:
    if isinstance(value, str):
        return [value]
    return list(value)
