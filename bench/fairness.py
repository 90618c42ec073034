"""Two API tokens, one with much work: how long the other's little work takes, beside it and alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.fake import fake_engine
from tests.support.stack import Client, Stack, running

#: Tasks of either token, and slots of the engine for both; one alone would have half of them.
MANY, FEW, SLOTS = 300, 10, 4
#: A task takes the engine a tenth of a second.
TOKENS, INTERVAL_S = 5, 0.02
#: The few may take so much longer than alone on half of the slots.
GOAL = 1.5
SECRETS = {"many": "bench-token-of-many", "few": "bench-token-of-few"}


@dataclass
class Caller:
    """One API token's client and its tasks."""

    client: Client

    def submit(self, count: int) -> list[str]:
        """Submit tasks; return their addresses."""
        body = {"kind": "llm.completion", "input": {"prompt": "x", "n_predict": TOKENS}, "queue_ttl_s": 300}
        return [self.client.post("/tasks", body).headers["Location"] for _ in range(count)]

    def seconds(self, addresses: list[str]) -> float:
        """Return the time from the first submit to the last end of some tasks, when all have ended."""
        tasks: list[dict[str, Any]] = [self.client.get(f"{address}?wait=60").json() for address in addresses]
        first_ms: int = min(task["submitted_ms"] for task in tasks)
        last_ms: int = max(task["finished_ms"] for task in tasks)
        return (last_ms - first_ms) / 1000


def few(home: Path, slots: int, beside: int) -> float:
    """Return the seconds that the few take on so many slots, beside so many of the other token."""
    tokens = ",".join(f"{name}:{secret}" for name, secret in SECRETS.items())
    options = ("--slots", str(slots), "--interval", str(INTERVAL_S))
    with fake_engine(*options) as engine:
        env = {"LLAMA_SERVER_URL": engine, "API_TOKENS": tokens}
        with running(Stack(home, env=env)) as stack:
            clients = {name: Client(stack.url, secret) for name, secret in SECRETS.items()}
            Caller(clients["many"]).submit(beside)
            caller = Caller(clients["few"])
            seconds = caller.seconds(caller.submit(FEW))
            for client in clients.values():
                client.session.close()
    return seconds


def row(home: Path) -> str:
    """Return the table row of fairness."""
    alone, beside = few(home / "alone", SLOTS // 2, 0), few(home / "beside", SLOTS, MANY)
    return (
        f"| {FEW} tasks of 0.1 s beside {MANY} of another token, {SLOTS} slots | {beside:.2f} s | alone on "
        f"{SLOTS // 2} slots {alone:.2f} s: x {beside / alone:.2f} | x {GOAL} |"
    )
