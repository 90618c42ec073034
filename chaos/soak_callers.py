"""The callers of a soak: every kind of task, each followed to its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import requests

from chaos.callers import TRY_AGAIN
from chaos.soak_counts import CallerCounts
from chaos.system import REQUEST_S, System
from graycat.queue.models import TERMINAL_STATES

#: Tokens of a text, and images of a batch.
TOKENS, BATCH_IMAGES = 3, 20
IMAGE: dict[str, Any] = {"width": 8, "height": 8, "steps": 1}
#: Of so many tasks of a REST client one has a webhook: how a delivery went is kept for an hour.
HOOKED = 50
#: Seconds until a caller gives up; seconds behind a refusal.
PATIENCE_S, PAUSE_S = 120.0, 0.05


class Unexpected(Exception):
    """Raised for an answer that no caller should get."""


class Run:
    """All callers of a run; they stop when so many tasks were begun."""

    def __init__(self, system: System, counts: CallerCounts, hook_url: str, tasks: int) -> None:
        self._system = system
        self.counts = counts
        self.hook_url = hook_url
        self._tasks = tasks
        self._numbers = count(1)
        self.troubles: list[str] = []

    def call(self, caller: Callable[[Caller], None]) -> None:
        """Have a caller work until there are enough tasks."""
        with requests.Session() as session:
            own = Caller(self._system, self.counts, session, self.hook_url)
            try:
                while self.counts.begin(self._tasks, BATCH_IMAGES if caller is batch else 1):
                    own.number = next(self._numbers)
                    caller(own)
            except Exception as error:  # noqa: BLE001 (whatever it is, the verdict tells of it)
                self.troubles.append(f"{caller.__name__}: {type(error).__name__}: {error}"[:500])

    def finish(self) -> None:
        """Take the schedule away."""
        with requests.Session() as session:
            Caller(self._system, self.counts, session, "").send(
                "cron", "DELETE", "/schedules/soak", may=(200, 204, 404)
            )


class Caller:
    """One kept connection, and what was last asked over it."""

    def __init__(self, system: System, counts: CallerCounts, session: requests.Session, hook_url: str) -> None:
        self._system = system
        self.counts = counts
        self._session = session
        self.hook_url = hook_url
        self.number = 0

    def send(self, owner: str, method: str, path: str, body: Any = None, may: tuple[int, ...] = (200, 201, 202)) -> Any:
        """Send a request, again if it is refused for now; return the answer. Raises Unexpected."""
        deadline = time.monotonic() + PATIENCE_S
        pause = threading.Event()
        while True:
            headers = {"Authorization": f"Bearer {self._system.tokens[owner]}"}
            self.counts.send(owner)
            answer = self._session.request(
                method, self._system.url + path, json=body, headers=headers, timeout=REQUEST_S
            )
            if answer.status_code in may:
                return answer
            if answer.status_code not in TRY_AGAIN or time.monotonic() > deadline:
                raise Unexpected(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
            pause.wait(PAUSE_S)

    def follow(self, path: str) -> str:
        """Return how a task has ended."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            state = self.send("rest", "GET", f"{path}?wait=10").json()["state"]
            if state in TERMINAL_STATES:
                return str(state)
        raise Unexpected(f"{path} does not end")


def completion(prompt: str) -> dict[str, Any]:
    """Return the body of a task for text."""
    return {"kind": "llm.completion", "input": {"prompt": prompt, "n_predict": TOKENS}}


def stream(caller: Caller) -> None:
    """A game's stream."""
    body = {"prompt": "Once", "n_predict": TOKENS, "stream": True}
    text = caller.send("game", "POST", "/completion", body).text
    if text.count("data: ") < TOKENS:
        raise Unexpected(f"a stream without its tokens: {text[:200]}")
    caller.counts.end("game", "stream", "succeeded", tokens=TOKENS)


def whole(caller: Caller) -> None:
    """A text at once."""
    answer = caller.send("game", "POST", "/completion", {"prompt": "Once", "n_predict": TOKENS}).json()
    caller.counts.end("game", "whole text", "succeeded", tokens=answer["tokens_predicted"])


def quick(caller: Caller) -> None:
    """A call that needs no slot."""
    caller.send("game", "POST", "/tokenize", {"content": "Hi"})
    caller.counts.end("game", "tokenize", "succeeded")


def named(caller: Caller) -> None:
    """A task under a name, submitted twice, now and then with a webhook."""
    path, body = f"/tasks/soak-{caller.number}", completion("named")
    if caller.number % HOOKED == 0:
        body["webhook"] = {"url": caller.hook_url}
    for _ in range(2):
        caller.send("rest", "PUT", path, body)
    caller.counts.end("rest", "task", caller.follow(path), tokens=TOKENS)


def cancelled(caller: Caller) -> None:
    """A task that is cancelled, and tried again."""
    path = "/tasks/" + caller.send("rest", "POST", "/tasks", completion("cancelled")).json()["id"]
    caller.send("rest", "DELETE", path)
    state = caller.follow(path)
    caller.counts.end("rest", "cancelled task", state)
    if state == "cancelled":
        again = "/tasks/" + caller.send("rest", "POST", f"{path}/retry").json()["id"]
        caller.counts.end("rest", "retried task", caller.follow(again))


def image(caller: Caller) -> None:
    """An image of a WebUI client."""
    answer = caller.send("webui", "POST", "/sdapi/v1/txt2img", {"prompt": "a cat", **IMAGE})
    caller.counts.end("webui", "image", "succeeded", images=len(answer.json()["images"]))


def batch(caller: Caller) -> None:
    """A batch of images, and the schedule that makes one a minute."""
    spec = {"name": "soak", "items": [f"item {number}" for number in range(BATCH_IMAGES)], "defaults": IMAGE}
    schedule = {"name": "soak", "cron": "* * * * *", "spec": spec | {"items": ["scheduled"]}, "overlap": "allow"}
    caller.send("cron", "PUT", "/schedules/soak", schedule)
    view = caller.send("cron", "POST", "/batches", spec).json()
    deadline = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while view["state"] not in TERMINAL_STATES:
        if time.monotonic() > deadline:
            raise Unexpected(f"a batch does not end: {view}"[:300])
        pause.wait(0.5)
        view = caller.send("cron", "GET", f"/batches/{view['id']}").json()
    if (view["state"], view["progress"]["done"]) != ("succeeded", BATCH_IMAGES):
        raise Unexpected(f"a batch lacks images: {view}"[:300])
    caller.counts.end("cron", "batch image", "succeeded", images=BATCH_IMAGES, number=BATCH_IMAGES)


#: Callers at a time.
CALLERS = (stream, stream, stream, whole, whole, quick, quick, named, named, named, cancelled, image, image, batch)
