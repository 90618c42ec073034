"""Scrapes under load: how long Prometheus waits for the metrics of web and of a worker that are busy."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

from bench import load
from bench.fake import fake_engine
from tests.support.stack import Client, Stack, free_ports, running

#: Streams of 20 tokens a second that are open meanwhile, and clients that tokenize as fast as they can.
STREAMS, CLIENTS = 50, 1
#: Seconds between two scrapes of one target; Prometheus waits 15.
EVERY_S = 0.25
#: The milliseconds that a scrape may take.
GOAL_MS = 30.0
TOKEN = "a-scraper-of-the-bench"  # noqa: S105 (of a stack that lives for seconds)
#: How far behind the first port of the metrics those of these workers lie (docs/monitoring.md).
LLM, QUICK = 20, 40


def row(home: Path, seconds: float) -> str:
    """Return the table row of scrapes."""
    base = free_ports(1)[0] - QUICK
    env = {"GRAYCAT_METRICS_PORT": str(base), "GRAYCAT_METRICS_TOKEN": TOKEN}
    options = ("--slots", str(STREAMS), "--interval", "0.05")
    with fake_engine(*options) as engine, running(Stack(home, env=env | {"LLAMA_SERVER_URL": engine})) as stack:
        urls = {"web": stack.url, "llm": f"http://127.0.0.1:{base + LLM}", "quick": f"http://127.0.0.1:{base + QUICK}"}
        times: dict[str, list[float]] = {name: [] for name in urls}
        over = threading.Event()
        scrapers = [
            threading.Thread(target=_scrape, args=(Client(url, TOKEN), times[name], over)) for name, url in urls.items()
        ]
        for scraper in scrapers:
            scraper.start()
        asyncio.run(_load(stack, seconds))
        over.set()
        for scraper in scrapers:
            scraper.join()
    told = [f"{name} {_percentile(found, 50):.0f}, {_percentile(found, 95):.0f}" for name, found in times.items()]
    return f"| scrapes beside {STREAMS * 20} tokens a second | | p50, p95, ms: {'; '.join(told)} | {GOAL_MS:.0f} ms |"


async def _load(stack: Stack, seconds: float) -> None:
    stream = {"prompt": "x", "n_predict": int(seconds / 0.05), "stream": True}
    await asyncio.gather(
        load.streams(stack.url, load.request(stack.url, stack.token, "/completion", stream), STREAMS),
        load.calls(
            stack.url, load.request(stack.url, stack.token, "/tokenize", {"content": "hello"}), CLIENTS, seconds
        ),
    )


def _scrape(client: Client, times: list[float], over: threading.Event) -> None:
    """Scrape until it is over, noting the milliseconds of each."""
    with client.session:
        while not over.wait(EVERY_S):
            started = time.perf_counter()
            response = client.get("/metrics")
            times.append((time.perf_counter() - started) * 1000)
            response.raise_for_status()


def _percentile(times: list[float], percent: int) -> float:
    return load.Result(times_ms=times).percentile(percent)
