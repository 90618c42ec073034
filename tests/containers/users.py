"""What each kind of user does in the first five minutes, and a load that goes on while things break."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import requests

from graycat.client import Client, Task
from graycat.client.errors import ClientError
from tests.containers.stack import ContainerStack, wait_until
from tests.support.unity import BrokenAnswer, V3Reader, send_post

#: Seconds that a client goes on trying while the server is away.
PATIENCE_S = 240.0
#: Seconds between two tasks of the load, and until the last of them has ended.
PAUSE_S, END_S = 0.7, 300.0
#: Seconds that a task of the load may wait for its worker.
QUEUE_TTL_S = 1800.0
SMALL = {"prompt": "a lighthouse", "width": 64, "height": 64, "steps": 1}
SCHEDULE = "every-minute"
WORKERS = {f"{kind}@docker" for kind in ("llm", "quick", "sd", "control")}


def expect(condition: object, what: str) -> None:
    """Raise RuntimeError unless something is so."""
    if not condition:
        raise RuntimeError(f"not so: {what}")


def game(stack: ContainerStack) -> None:
    """Stream a completion as LLM for Unity reads it, and have a text tokenized."""
    body = {"prompt": "The lighthouse keeper said", "n_predict": 16, "stream": True}
    with send_post(stack.url, "/completion", body, stack.token) as connection:
        answer = V3Reader().read(connection)
    expect(answer.content, "a completion has a text")
    headers = {"Authorization": f"Bearer {stack.token}"}
    reply = requests.post(f"{stack.url}/tokenize", json={"content": "Hi there"}, headers=headers, timeout=30)
    expect(reply.status_code == 200 and reply.json()["tokens"], f"/tokenize answers: {reply.status_code}")


def rest(stack: ContainerStack) -> None:
    """Submit an image and a text, poll both, and fetch the image."""
    with Client(stack.url, stack.token, patience_s=PATIENCE_S) as client:
        image = client.submit("sd.txt2img", SMALL)
        text = client.submit("llm.completion", {"prompt": "x", "n_predict": 4})
        expect(image.wait(END_S).state == "succeeded" and list(image.images()), "an image is made")
        expect(text.answer(END_S)["content"], "a text is made")


def night(stack: ContainerStack) -> None:
    """Run a batch of images, and set up a schedule; ``fired`` says whether it has fired."""
    with Client(stack.url, stack.token, patience_s=PATIENCE_S) as client:
        spec = {"name": "first", "items": ["a lighthouse", "a keeper"], "defaults": {key: SMALL[key] for key in
                ("width", "height", "steps")}}  # fmt: skip
        batch = client.batches.submit(spec, "first-five-minutes")
        wait_until(lambda: batch.refresh().done, "the batch ends")
        expect(batch.state == "succeeded" and len(batch.manifest()) == 2, f"the batch succeeds: {batch.state}")
        client.schedules.put(SCHEDULE, {"cron": "* * * * *", "spec": spec | {"name": "again"}})


def fired(stack: ContainerStack) -> bool:
    """Return whether the schedule has made a batch that has succeeded."""
    with Client(stack.url, stack.token, patience_s=PATIENCE_S) as client:
        return any(batch.state == "succeeded" for batch in client.batches.all() if batch.raw["name"] == "again")


def operator(stack: ContainerStack) -> None:
    """Look at the status on the command line, and at Flower's workers."""
    said = stack.compose("exec", "-T", "web", "graycat", "status")
    expect("games are served" in said, f"graycat status says that games are served: {said}")

    def shown() -> bool:
        """Return whether Flower's first page has all workers."""
        rows = stack.flower("/workers?json=1").json()["data"]
        return {row["hostname"] for row in rows if row["status"]} >= WORKERS

    wait_until(shown, "Flower shows the workers", 60)


@dataclass
class Load:
    """Tasks that are submitted and streams that are read, all the time, until ``over``."""

    stack: ContainerStack
    over: threading.Event = field(default_factory=threading.Event)
    #: The tasks that were accepted.
    tasks: list[Task] = field(default_factory=list)
    #: Streams that games have read to their end, and the calls that have to be repeated.
    streams: int = 0
    broken: list[str] = field(default_factory=list)

    def submit(self) -> None:
        """Submit texts and images in turn."""
        kinds: list[tuple[str, dict[str, Any]]] = [("llm.completion", {"prompt": "x", "n_predict": 4})]
        kinds.append(("sd.txt2img", SMALL))
        with Client(self.stack.url, self.stack.token, patience_s=PATIENCE_S) as client:
            for kind, body in cycle(kinds):
                if self.over.wait(PAUSE_S):
                    return
                try:
                    self.tasks.append(client.submit(kind, body, queue_ttl_s=QUEUE_TTL_S))
                except ClientError as error:
                    # It was never accepted.
                    self.broken.append(f"submit: {error}")

    def stream(self) -> None:
        """Read one stream after the other. One whose web process is killed breaks off; the game asks again."""
        while not self.over.wait(2 * PAUSE_S):
            try:
                game(self.stack)
                self.streams += 1
            except (OSError, BrokenAnswer, requests.RequestException, RuntimeError) as error:
                self.broken.append(f"stream: {type(error).__name__} {str(error)[:120]}")

    def lost(self) -> list[str]:
        """Wait for the end of each task that was accepted; return those that have not succeeded."""
        bad = []
        with Client(self.stack.url, self.stack.token, patience_s=PATIENCE_S) as client:
            for task in self.tasks:
                now = client.task(task.id).wait(END_S)
                if now.state != "succeeded":
                    bad.append(f"{now.view.kind} {task.id}: {now.state} {now.view.problem}")
        return bad


@contextmanager
def loaded(stack: ContainerStack) -> Iterator[Load]:
    """Have the load go on for the block."""
    load = Load(stack)
    threads = [threading.Thread(target=load.submit), threading.Thread(target=load.stream)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.over.set()
        for thread in threads:
            thread.join(PATIENCE_S + 60)
