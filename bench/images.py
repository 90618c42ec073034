"""Images through graycat against the bare engine: a 512 x 512 PNG, one at a time and four at once."""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import threading
import time
from urllib.parse import urlsplit

from bench.engine_ratio import Target

#: An engine whose steps take no time: what is left is drawing, encoding and the way through graycat.
START_COMMAND = f"{sys.executable} -m graycat.engines.placeholder --port {{port}} --step-s 0"
BODY = {"prompt": "a lighthouse", "seed": 1, "subseed": 1, "steps": 1, "width": 512, "height": 512}
AT_ONCE = 4
#: The limits that graycat sets itself, in ms.
GOALS = {"image": 25.0, "last of 4 images": 40.0}


class Client:
    """One caller with a kept connection, as scripts have it."""

    def __init__(self, target: Target) -> None:
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {target.token}"}
        self._connection = http.client.HTTPConnection(urlsplit(target.url).netloc, timeout=60)

    def image_ms(self) -> tuple[float, str]:
        """Return the time of one image, from request to whole answer, and its base64."""
        started = time.perf_counter()
        self._connection.request("POST", "/sdapi/v1/txt2img", json.dumps(BODY), self._headers)
        response = self._connection.getresponse()
        body = response.read()
        ms = (time.perf_counter() - started) * 1000
        if response.status != 200:
            raise RuntimeError(f"HTTP {response.status}: {body[:200]!r}")
        return ms, json.loads(body)["images"][0]

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def last_of_several_ms(clients: list[Client]) -> float:
    """Return how long the last of several images takes that are asked for at once."""
    started = time.perf_counter()
    threads = [threading.Thread(target=client.image_ms) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - started) * 1000


def compare(engine: Target, graycat: Target, rounds: int) -> dict[str, tuple[float, float]]:
    """Return the medians (ms) of both targets by what was measured; raises RuntimeError where their images differ."""
    groups = [[Client(target) for _ in range(AT_ONCE)] for target in (engine, graycat)]
    seen: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in GOALS}
    alone, together = GOALS
    if len({group[0].image_ms()[1] for group in groups}) != 1:
        raise RuntimeError("graycat's image differs from the engine's")
    for _ in range(rounds):
        for _ in range(3):
            for place, group in enumerate(groups):
                seen[alone][place].append(group[0].image_ms()[0])
        for place, group in enumerate(groups):
            seen[together][place].append(last_of_several_ms(group))
    for group in groups:
        for client in group:
            client.close()
    return {name: (statistics.median(bare), statistics.median(ours)) for name, (bare, ours) in seen.items()}
