"""graycat against the bare engine, in one run: the two are asked in turn, so that a drifting machine cancels out."""

from __future__ import annotations

import http.client
import json
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

PROMPT = "The history of the lighthouse begins with"
#: Concurrent streams whose throughput is compared.
LEVELS = (1, 4)


@dataclass(frozen=True)
class Target:
    """Where to ask, and as whom."""

    url: str
    token: str = ""

    def post(self, path: str, body: dict[str, Any]) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send a request on a new connection, as a game does; return connection and response."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=120)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{self.url}{path}: HTTP {response.status}: {response.read()[:200]!r}")
        return connection, response


def tokenize_ms(target: Target) -> float:
    """Return the time of one /tokenize."""
    started = time.perf_counter()
    connection, response = target.post("/tokenize", {"content": "hello world"})
    response.read()
    connection.close()
    return (time.perf_counter() - started) * 1000


def stream(target: Target, prompt: str, predict: int) -> tuple[float, int, str]:
    """Return a streamed completion's time to the first token (ms), its number of tokens, and its text."""
    body = {"prompt": prompt, "n_predict": predict, "stream": True, "temperature": 0.0, "seed": 1, "ignore_eos": True}
    # How much of a prompt is cached changes the engine's rounding, and so its text.
    body["cache_prompt"] = False
    started, first_ms, tokens, text, buffer = time.perf_counter(), 0.0, 0, "", b""
    connection, response = target.post("/completion", body)
    while piece := response.read1(65536):
        *events, buffer = (buffer + piece).split(b"\n\n")
        for event in events:
            content = json.loads(event.removeprefix(b"data: "))["content"] if event.strip() else ""
            if content:
                first_ms = first_ms or (time.perf_counter() - started) * 1000
                tokens, text = tokens + 1, text + content
    connection.close()
    return first_ms, tokens, text


def tokens_per_second(target: Target, clients: int, predict: int) -> float:
    """Return the tokens a second of several streams at once."""
    counts: list[int] = []

    def client(number: int) -> None:
        counts.append(stream(target, f"{PROMPT} number {number}", predict)[1])

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


def compare(engine: Target, graycat: Target, rounds: int, predict: int = 32) -> dict[str, tuple[float, float]]:
    """Return the medians of both targets by what was measured; raises RuntimeError where their texts differ."""
    seen: dict[str, tuple[list[float], list[float]]] = {}
    texts: set[str] = set()

    def each(name: str, measure: Callable[[Target], float]) -> None:
        for place, target in enumerate((engine, graycat)):
            seen.setdefault(name, ([], []))[place].append(measure(target))

    def first_token(target: Target) -> float:
        first_ms, _, text = stream(target, PROMPT, predict)
        texts.add(text)
        return first_ms

    for target in (engine, graycat):  # warm
        first_token(target)
    for _ in range(rounds):
        for _ in range(5):
            each("tok", tokenize_ms)
        each("ttft", first_token)
        for clients in LEVELS:
            each(f"tps@{clients}", lambda target, clients=clients: tokens_per_second(target, clients, predict))  # type: ignore[misc]
    if len(texts) != 1:
        raise RuntimeError("graycat's text differs from the engine's")
    return {name: (statistics.median(bare), statistics.median(ours)) for name, (bare, ours) in seen.items()}
