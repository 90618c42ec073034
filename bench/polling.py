"""Many clients who ask whether a task has changed: 304s a second."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from bench import load
from bench.fake import fake_engine
from tests.support.stack import Stack, running

CLIENTS = 32
#: The 304s a second that graycat wants to give, with the load generator on the same two cores.
GOAL = 1500


def row(home: Path, seconds: float) -> str:
    """Return the table row of pollers."""
    # One token a minute: the task runs as long as it is asked for.
    with fake_engine("--interval", "60") as engine, running(Stack(home, env={"LLAMA_SERVER_URL": engine})) as stack:
        message = _poll(stack)
        asyncio.run(load.calls(stack.url, message, CLIENTS, seconds=1, status=304))
        result = asyncio.run(load.calls(stack.url, message, CLIENTS, seconds, status=304))
    return (
        f"| unchanged tasks, {CLIENTS} pollers | {result.rate:.0f} a second | p50 {result.percentile(50):.1f} ms, "
        f"p95 {result.percentile(95):.1f} ms | {GOAL} a second |"
    )


def _poll(stack: Stack) -> bytes:
    """Return the bytes of a request for a task that runs, by a caller who knows that."""
    client = stack.client()
    address = client.post("/tasks", {"kind": "llm.completion", "input": {"prompt": "x"}}).headers["Location"]
    tag = ""
    while not tag.startswith('"running'):
        tag = client.get(address).headers["ETag"]
    head = f"GET {address} HTTP/1.1\r\nHost: {urlsplit(stack.url).netloc}\r\n"
    return f"{head}Authorization: Bearer {stack.token}\r\nIf-None-Match: {tag}\r\n\r\n".encode()
