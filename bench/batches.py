"""A batch beside a game: what an interactive image waits, and what the batch makes of the gaps."""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.support.processes import eventually
from tests.support.stack import Client, Stack, running

#: An image takes the engine 0.4 s.
STEP_S, STEPS = 0.02, 20
BODY: dict[str, Any] = {"width": 64, "height": 64, "steps": STEPS}
COMMAND = f"{sys.executable} -m graycat.engines.placeholder --port {{port}} --step-s {STEP_S}"
#: Seconds between two interactive images.
EVERY_S = 2.0
#: An interactive image may wait for one image at most (p95), and the batch may lose so much of its rate in the gaps.
GOAL_WAIT, GOAL_LOSS = 1.0, 0.05
SECRETS = {"night": "bench-token-of-night", "game": "bench-token-of-game"}


@dataclass
class Result:
    """What was measured: seconds of an image on the bare engine, waits of interactive ones, seconds of each batch."""

    image_s: float
    waits_s: list[float]
    alone_s: float
    gaps_s: float
    count: int

    @property
    def wait_s(self) -> float:
        """Return the 95th percentile of the waits."""
        return sorted(self.waits_s)[int(len(self.waits_s) * 0.95)]

    def loss(self, seconds: float) -> float:
        """Return the share of the bare engine's rate that a batch lost."""
        return 1 - self.image_s * self.count / seconds


def bare(stack: Stack, count: int) -> float:
    """Return the seconds of an image where nothing but the engine is asked, one after the other."""
    with requests.Session() as session:
        url = f"{stack.sd_url}/sdapi/v1/txt2img"
        session.post(url, json=BODY | {"prompt": "warm"}, timeout=60)
        started = time.monotonic()
        for number in range(count):
            session.post(url, json=BODY | {"prompt": f"bare {number}"}, timeout=60).raise_for_status()
        return (time.monotonic() - started) / count


def batch(stack: Stack, client: Client, name: str, count: int) -> list[dict[str, Any]]:
    """Run a batch to its end; return its manifest's lines."""
    document = {"name": name, "items": [f"{name} {n}" for n in range(count)], "defaults": BODY}
    path = client.post("/batches", document).json()["links"]["self"]

    def ended() -> bool:
        return bool(client.get(path).json()["state"] == "succeeded")

    eventually(ended, 600, 0.5)
    return [json.loads(line) for line in client.get(f"{path}/manifest").text.splitlines()]


class Game:
    """Asks for an image every other second, in a thread."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._over = threading.Event()
        self._paths: list[str] = []
        self._thread = threading.Thread(target=self._play)

    def _play(self) -> None:
        while not self._over.wait(EVERY_S):
            answer = self._client.post("/tasks", {"kind": "sd.txt2img", "input": BODY | {"prompt": "game"}})
            self._paths.append(answer.headers["Location"])

    def __enter__(self) -> Game:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def tasks(self) -> list[dict[str, Any]]:
        """Return its tasks, all at their ends."""
        return [self._client.get(f"{path}?wait=60").json() for path in self._paths]


def span_s(lines: list[dict[str, Any]]) -> tuple[int, int]:
    """Return when the first of some images was begun and the last was finished, in ms."""
    return min(line["started_ms"] for line in lines), max(line["finished_ms"] for line in lines)


def measure(home: Path, count: int) -> Result:
    """Measure with batches of ``count`` images."""
    tokens = ",".join(f"{name}:{secret}" for name, secret in SECRETS.items())
    env = {"RUN_LLM": "false", "RUN_SD": "true", "SD_STARTUP_COMMAND": COMMAND, "API_TOKENS": tokens}
    with running(Stack(home, env=env)) as stack:
        clients = {name: Client(stack.url, secret) for name, secret in SECRETS.items()}
        image_s = bare(stack, max(count // 4, 10))
        first, last = span_s(batch(stack, clients["night"], "alone", count))
        with Game(clients["game"]) as game:
            lines = batch(stack, clients["night"], "beside", count)
            tasks = game.tasks()
        begin, end = span_s(lines)
        inside = [task for task in tasks if begin <= task["submitted_ms"] <= end]
        waits_s = [(task["started_ms"] - task["submitted_ms"]) / 1000 for task in inside]
        played_s = sum(min(task["finished_ms"], end) - task["started_ms"] for task in inside) / 1000
        for client in clients.values():
            client.session.close()
    return Result(image_s, waits_s, (last - first) / 1000, (end - begin) / 1000 - played_s, count)


def row(home: Path, count: int = 100) -> str:
    """Return the table row of batches."""
    found = measure(home, count)
    lost = [f"{-found.loss(seconds):+.1%}" for seconds in (found.alone_s, found.gaps_s)]
    return (
        f"| batch of {count} images of {found.image_s:.2f} s, one for a game every {EVERY_S:g} s | the game waits "
        f"p95 {found.wait_s:.2f} s, longest {max(found.waits_s):.2f} s | batch's rate against the bare engine's: alone "
        f"{lost[0]}, in the gaps {lost[1]} | {found.image_s * GOAL_WAIT:.2f} s, {-GOAL_LOSS:.0%} |"
    )
