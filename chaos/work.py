"""What windows are tried with: work of each kind, whose caller behaves as callers do, and what must come of it.

Each knows its marks before it is submitted: the ids that its tasks will have, and words that are in all its requests.
Batches and schedules are in ``work_batches.py``.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import requests

from graycat.broker.keys import PAUSED_QUEUES
from graycat.web.api.task_requests import scoped_ids
from tests.support.stack import Stack

OWNER = "tests"
#: Tokens of a text, and of one that is cancelled long before its end.
TOKENS, LONG_TOKENS = 6, 1500
IMAGE: dict[str, Any] = {"width": 64, "height": 64, "steps": 2}
#: Seconds that one request may take, that a caller goes on for, and between two of its tries.
REQUEST_S, PATIENCE_S, RETRY_S = 15.0, 60.0, 0.1
ENDED = ("succeeded", "failed", "cancelled", "expired")


class NeverEnds(Exception):
    """Raised if a caller does not get what it waits for."""


class Work(ABC):
    """One piece of work. ``hook``: the address of a webhook's receiver."""

    kind: ClassVar[str]
    #: The kind of worker that runs its tasks.
    worker: ClassVar[str] = "llm"
    #: Whether an engine is asked for it, by a prompt with its name, once an attempt at most.
    calls_engine: ClassVar[bool] = True
    #: The events that its webhook asks for.
    events: ClassVar[tuple[str, ...]] = ()

    def __init__(self, stack: Stack, name: str, hook: str, patience_s: float = PATIENCE_S) -> None:
        self.stack = stack
        self.name = name
        self.hook = hook
        self._pause = threading.Event()
        self._until = time.monotonic() + patience_s

    def marks(self) -> list[str]:
        """Return what its requests and records have in them."""
        return [self.name, *scoped_ids(OWNER, self.name).values(), *scoped_ids(OWNER, self.name, space="key").values()]

    @abstractmethod
    def run(self) -> None:
        """Do all that its caller does; return at its end. Raises NeverEnds."""

    @abstractmethod
    def expected(self) -> dict[str, tuple[str, ...]]:
        """Return the states that each of its tasks may have at its end, by id."""

    def check(self) -> list[str]:
        """Return what its caller has to complain of."""
        return []

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
        """Send a request until it is answered: a connection that breaks tells a caller nothing."""
        headers = {"Authorization": f"Bearer {self.stack.token}", "X-Request-ID": self.name, **headers}
        while True:
            try:
                answer = requests.request(method, self.stack.url + path, json=body, headers=headers, timeout=REQUEST_S)
                if answer.status_code not in (429, 503):
                    return answer
            except requests.RequestException:
                pass
            # Asked once at least: who has waited for long wants to know for what.
            if time.monotonic() > self._until:
                raise NeverEnds(f"{method} {path} is not answered")
            self._pause.wait(RETRY_S)

    def wait_until(self, predicate: Callable[[], object], what: str) -> None:
        """Return when something is so. Raises NeverEnds."""
        while not predicate():
            if time.monotonic() > self._until:
                raise NeverEnds(what)
            self._pause.wait(RETRY_S)

    def poll(self, path: str) -> dict[str, Any]:
        """Look at a task until it has ended; return it. Raises NeverEnds."""
        while True:
            view: dict[str, Any] = self.send("GET", path).json()
            if view.get("state") in ENDED:
                return view
            if time.monotonic() > self._until:
                raise NeverEnds(f"{path} is {view.get('state')}")
            self._pause.wait(RETRY_S)

    def webhook(self) -> dict[str, Any]:
        """Return the field of a task with its webhook."""
        return {"webhook": {"url": f"{self.hook}/hook", "events": list(self.events)}}


class Task(Work):
    """A task under a name of its caller's, polled to its end."""

    task_kind: ClassVar[str]

    def body(self) -> dict[str, Any]:
        """Return what the engine is asked for."""
        return {"prompt": self.name, "n_predict": TOKENS}

    def fields(self) -> dict[str, Any]:
        """Return further fields of its request."""
        return {}

    @property
    def task_id(self) -> str:
        """Return the task's id."""
        return scoped_ids(OWNER, self.name)[self.task_kind.partition(".")[0]]

    def submit(self) -> None:
        """Submit it."""
        content = {"kind": self.task_kind, "input": self.body(), **self.fields()}
        if self.events:
            content |= self.webhook()
        answer = self.send("PUT", f"/tasks/{self.name}", content)
        if answer.status_code not in (200, 202):
            raise NeverEnds(f"{answer.status_code} {answer.text[:200]}")

    def run(self) -> None:
        """Submit it and wait for its end."""
        self.submit()
        self.view = self.poll(f"/tasks/{self.name}")

    def expected(self) -> dict[str, tuple[str, ...]]:
        """It succeeds, whatever dies."""
        return {self.task_id: ("succeeded",)}


class Text(Task):
    """A polled text."""

    kind, task_kind, events = "text", "llm.completion", ("started", "succeeded")
    tokens: ClassVar[int] = TOKENS

    def body(self) -> dict[str, Any]:
        """Return what the engine is asked for."""
        return {"prompt": self.name, "n_predict": self.tokens}

    def check(self) -> list[str]:
        """The answer and the events are whole."""
        told = self.stack.redis().xrange(f"graycat:events:{self.task_id}")
        kinds = [fields["kind"] for _, fields in told]
        begins = max((at for at, kind in enumerate(kinds) if kind == "restarted"), default=0)
        chunks = kinds[begins:].count("chunk")
        problems = []
        # The engine's last event has no token.
        if chunks != self.tokens + 1:
            problems.append(f"{self.name}: its events have {chunks} chunks in place of {self.tokens + 1}")
        if kinds.count("result") != 1 or kinds[-1] != "result":
            problems.append(f"{self.name}: its events end with {kinds[-1]}, {kinds.count('result')} results")
        return problems


class LongText(Text):
    """A text that takes longer than some leases."""

    kind, tokens = "long text", 300


class Crowd(Work):
    """Texts of one owner, all at once: most of them wait for their turn, and for a slot."""

    kind = "crowd"
    COUNT, TOKENS, SLOTS = 10, 80, 4

    def _names(self) -> list[str]:
        return [f"{self.name}-{number}" for number in range(self.COUNT)]

    def run(self) -> None:
        """Submit all, then wait for all."""
        for name in self._names():
            content = {"kind": "llm.completion", "input": {"prompt": name, "n_predict": self.TOKENS}}
            self.send("PUT", f"/tasks/{name}", content)
        for name in self._names():
            self.poll(f"/tasks/{name}")

    def expected(self) -> dict[str, tuple[str, ...]]:
        """Each succeeds."""
        return {scoped_ids(OWNER, name)["llm"]: ("succeeded",) for name in self._names()}

    def check(self) -> list[str]:
        """No more of them run at once than the engine has slots."""
        changes = []
        for task_id in self.expected():
            record = self.stack.redis().hgetall(f"graycat:task:{task_id}")
            if record.get("attempt") == "1" and "finished_ms" in record:
                # One that ends in the millisecond in which another begins has left its slot.
                changes += [(int(record["started_ms"]), 1), (int(record["finished_ms"]), -1)]
        running, most = 0, 0
        for _, change in sorted(changes):
            running += change
            most = max(most, running)
        if most <= self.SLOTS:
            return []
        return [f"{self.name}: {most} texts ran at once on an engine with {self.SLOTS} slots"]


class Quick(Task):
    """A call that needs no slot."""

    kind, task_kind, calls_engine, worker = "quick", "llm.tokenize", False, "quick"

    def body(self) -> dict[str, Any]:
        """Return the text whose tokens are asked for."""
        return {"content": self.name}


class Image(Task):
    """A polled image."""

    kind, task_kind, events, worker = "image", "sd.txt2img", ("succeeded",), "sd"

    def body(self) -> dict[str, Any]:
        """Return what is rendered."""
        return {"prompt": self.name, **IMAGE}

    def check(self) -> list[str]:
        """There is one image, and it can be fetched."""
        stored = self.stack.redis().hlen(f"graycat:artifacts:{self.task_id}")
        links = self.view["result"]["images"]
        problems = []
        if (stored, len(links)) != (1, 1):
            problems.append(f"{self.name}: {stored} images are stored and {len(links)} are told, in place of one")
        for link in links:
            if self.send("GET", link["url"]).status_code != 200:
                problems.append(f"{self.name}: an image cannot be fetched")
        return problems


class Stream(Work):
    """A game's stream: if its connection breaks, the game asks again, and the first answer is wanted by nobody."""

    kind = "stream"

    def run(self) -> None:
        """Read a stream to its end."""
        self.tries = 0
        self.chunks = 0
        while not self._read():
            if time.monotonic() > self._until:
                raise NeverEnds("no stream is whole")

    def _read(self) -> bool:
        self.tries += 1
        body = {"prompt": self.name, "n_predict": TOKENS, "stream": True}
        headers = {"Authorization": f"Bearer {self.stack.token}", "X-Request-ID": f"{self.name}-{self.tries}"}
        self.chunks, ended = 0, False
        try:
            with requests.post(
                f"{self.stack.url}/completion", json=body, headers=headers, stream=True, timeout=REQUEST_S
            ) as answer:
                for line in answer.iter_lines():
                    self.chunks += line.startswith(b"data: ")
                    ended = ended or b'"stop":true' in line
        except requests.RequestException:
            ended = False
        if not ended:
            self._pause.wait(RETRY_S)
        return ended

    def _task_ids(self) -> list[str]:
        found = [self.stack.task_id(f"{self.name}-{number}") for number in range(1, self.tries + 1)]
        return [task_id for task_id in found if task_id]

    def expected(self) -> dict[str, tuple[str, ...]]:
        """Only the last try must succeed: nobody waits for the others."""
        *others, last = self._task_ids()
        return dict.fromkeys(others, ENDED) | {last: ("succeeded",)}

    def check(self) -> list[str]:
        """No token is missing and none is there twice."""
        if self.chunks == TOKENS + 1:
            return []
        return [f"{self.name}: the stream has {self.chunks} events in place of {TOKENS + 1}"]


class Cancelled(Task):
    """A long text whose caller cancels it while it runs."""

    kind, task_kind = "cancel", "llm.completion"
    events: ClassVar[tuple[str, ...]] = ("cancelled",)

    def body(self) -> dict[str, Any]:
        """Return a text that takes much longer than its cancel."""
        return {"prompt": self.name, "n_predict": LONG_TOKENS}

    def run(self) -> None:
        """Submit it, cancel it when it runs, and wait for its end."""
        self.submit()
        path = f"/tasks/{self.name}"
        self.wait_until(lambda: self.send("GET", path).json().get("state") != "queued", "it never runs")
        self.send("DELETE", path)
        self.view = self.poll(path)

    def expected(self) -> dict[str, tuple[str, ...]]:
        """It ends cancelled."""
        return {self.task_id: ("cancelled",)}


class Overrun(Task):
    """A text that takes longer than it may run."""

    kind, task_kind = "overrun", "llm.completion"
    RUNS_S = 1.0

    def body(self) -> dict[str, Any]:
        """Return a text that takes much longer than that."""
        return {"prompt": self.name, "n_predict": LONG_TOKENS}

    def fields(self) -> dict[str, Any]:
        """Return its deadline."""
        return {"exec_timeout_s": self.RUNS_S}

    def expected(self) -> dict[str, tuple[str, ...]]:
        """It is stopped."""
        return {self.task_id: ("failed",)}


class Overdue(Task):
    """A text that waits in a paused queue for longer than it may."""

    kind, task_kind, calls_engine = "overdue", "llm.completion", False
    WAITS_S = 0.5

    def fields(self) -> dict[str, Any]:
        """Return its deadline."""
        return {"queue_ttl_s": self.WAITS_S}

    def run(self) -> None:
        """Submit it while its queue is paused, and wait for its end."""
        broker = self.stack.redis()
        broker.sadd(PAUSED_QUEUES, "llm")
        try:
            self.wait_until(lambda: not self._count_consumers(), "its queue is not paused")
            self.submit()
            self._pause.wait(4 * self.WAITS_S)
        finally:
            broker.srem(PAUSED_QUEUES, "llm")
        self.view = self.poll(f"/tasks/{self.name}")

    def _count_consumers(self) -> int:
        queues = self.send("GET", "/status").json()["queues"]
        return sum(int(queue["consumers"]) for queue in queues if queue["name"] == "llm")

    def check(self) -> list[str]:
        """It did not begin behind its deadline."""
        record = self.stack.redis().hgetall(f"graycat:task:{self.task_id}")
        waited_ms = int(record.get("started_ms", 0)) - int(record["submitted_ms"])
        if waited_ms <= 1000 * self.WAITS_S:
            return []
        return [f"{self.name}: it was started after {waited_ms} ms, and might wait {1000 * self.WAITS_S:g} ms"]

    def expected(self) -> dict[str, tuple[str, ...]]:
        """It never runs."""
        return {self.task_id: ("expired",)}


class Retried(Cancelled):
    """A cancelled text that its caller tries again, under a key: one retry, however often that is asked for."""

    kind, events = "retry", ()

    def run(self) -> None:
        """Cancel it, and ask for the retry; the retry is as long, so it is cancelled, too."""
        super().run()
        key = {"Idempotency-Key": self.name}
        self.retry_id = ""
        answer = self.send("POST", f"/tasks/{self.name}/retry", **key)
        if answer.status_code not in (200, 202):
            raise NeverEnds(f"{answer.status_code} {answer.text[:200]}")
        self.retry_id = answer.json()["id"]
        self.send("DELETE", f"/tasks/{self.retry_id}")
        self.poll(f"/tasks/{self.retry_id}")

    def expected(self) -> dict[str, tuple[str, ...]]:
        """Both end cancelled."""
        return {self.task_id: ("cancelled",), self.retry_id: ("cancelled",)}
