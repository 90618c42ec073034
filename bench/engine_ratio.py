"""graycat against the bare engine, in one run: the two are asked in turn, so that a drifting machine cancels out."""

from __future__ import annotations

import http.client
import json
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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


class Comparison:
    """Measures the bare engine and graycat in turn, so that both see the same machine."""

    def __init__(self, engine: Target, graycat: Target, predict: int) -> None:
        self._targets = (engine, graycat)
        self._predict = predict
        #: What was measured, by its name: of the engine, and of graycat.
        self.seen: dict[str, tuple[list[float], list[float]]] = {}
        self.texts: set[str] = set()

    def first_token_ms(self, target: Target) -> float:
        """Return the time to the first token; keep the text."""
        first_ms, _, text = stream(target, PROMPT, self._predict)
        self.texts.add(text)
        return first_ms

    def warm_up(self) -> None:
        """Have both answer once before anything is measured."""
        for target in self._targets:
            self.first_token_ms(target)

    def measure(self, name: str, function: Callable[[Target], float]) -> None:
        """Measure both once."""
        results = self.seen.setdefault(name, ([], []))
        for values, target in zip(results, self._targets, strict=True):
            values.append(function(target))

    def measure_all(self) -> None:
        """Measure everything once; short calls several times."""
        for _ in range(5):
            self.measure("tok", tokenize_ms)
        self.measure("ttft", self.first_token_ms)
        for clients in LEVELS:
            self.measure(f"tps@{clients}", partial(tokens_per_second, clients=clients, predict=self._predict))


def compare(engine: Target, graycat: Target, rounds: int, predict: int = 32) -> dict[str, tuple[float, float]]:
    """Return the medians of both targets by what was measured; raises RuntimeError if their texts differ."""
    comparison = Comparison(engine, graycat, predict)
    comparison.warm_up()
    for _ in range(rounds):
        comparison.measure_all()
    if len(comparison.texts) != 1:
        raise RuntimeError("graycat's text differs from the engine's")
    return {name: (statistics.median(bare), statistics.median(ours)) for name, (bare, ours) in comparison.seen.items()}
