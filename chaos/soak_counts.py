"""What the callers of a soak have counted, and the counters of graycat that must agree with it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import requests
from prometheus_client.parser import text_string_to_metric_families

from chaos.system import OWNERS, System
from graycat.queue.topology import WORKER_KINDS

#: Amounts of the usage that are compared.
AMOUNTS = ("requests", "failed", "cancelled", "images", "completion_tokens")
#: The control worker's metrics of the same.
METRICS = {
    "graycat_usage_requests_total": "requests",
    "graycat_usage_images_total": "images",
    "graycat_usage_tokens_total": "completion_tokens",
}


@dataclass
class CallerCounts:
    """What the callers have counted. All methods may be called by any thread."""

    #: Tasks by their end, and what each owner has used, by ``OWNER AMOUNT``; HTTP requests by owner.
    ended: Counter[str] = field(default_factory=Counter)
    used: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    begun: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def begin(self, most: int, number: int = 1) -> bool:
        """Note that tasks are about to be submitted; False if there are enough."""
        with self._lock:
            if self.begun >= most:
                return False
            self.begun += number
            return True

    def send(self, owner: str) -> None:
        """Note an HTTP request."""
        with self._lock:
            self.sent[owner] += 1

    def end(self, owner: str, kind: str, state: str, *, images: int = 0, tokens: int = 0, number: int = 1) -> None:
        """Note that tasks have ended."""
        with self._lock:
            self.ended[state] += number
            self.kinds[kind] += number
            self.used[f"{owner} requests"] += number
            self.used[f"{owner} images"] += images
            self.used[f"{owner} completion_tokens"] += tokens
            self.used[f"{owner} cancelled"] += number * (state == "cancelled")
            self.used[f"{owner} failed"] += number * (state in ("failed", "expired"))


@dataclass(frozen=True, slots=True)
class Counts:
    """What graycat says: the usage, the same in the metrics, and HTTP requests by owner."""

    usage: Counter[str]
    metrics: Counter[str]
    http: Counter[str]


def read_counts(system: System) -> Counts:
    """Return what graycat has counted so far."""
    http: Counter[str] = Counter()
    for name, labels, value in _scrape(system, f"{system.url}/metrics"):
        if name == "graycat_http_requests_total" and labels["token"] in OWNERS:
            http[labels["token"]] += int(value)
    metrics: Counter[str] = Counter()
    port = system.metrics_port + WORKER_KINDS["control"].metrics_offset
    for name, labels, value in _scrape(system, f"http://127.0.0.1:{port}/metrics"):
        amount = METRICS.get(name)
        if amount and labels.get("type", "completion") == "completion":
            metrics[f"{labels['token']} {amount}"] += int(value)
    usage: Counter[str] = Counter()
    for row in system.request("GET", "/usage", "operator").json()["rows"]:
        for amount in AMOUNTS:
            usage[f"{row['owner']} {amount}"] += row[amount]
    return Counts(usage, metrics, http)


def _scrape(system: System, url: str) -> Iterator[tuple[str, dict[str, str], float]]:
    token = (system.home / "metrics-token").read_text().strip()
    text = requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=20).text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def compare(now: Counts, before: Counts, expected: CallerCounts) -> list[str]:
    """Return where graycat's counters differ from what the callers have counted."""
    wrong = []
    for name, known in sorted(expected.used.items()):
        owner, _, amount = name.partition(" ")
        if owner == "cron" or (amount == "completion_tokens" and owner != "game"):
            # Schedules submit by themselves; what a cancelled task has made before it stopped, nobody knows.
            continue
        counted = now.usage[name] - before.usage[name]
        if counted != known:
            wrong.append(f"usage of {name}: {counted}, and the callers know {known}")
    for name in sorted(now.usage):
        counted, used = now.metrics[name] - before.metrics[name], now.usage[name] - before.usage[name]
        if name.partition(" ")[2] in METRICS.values() and counted != used:
            wrong.append(f"metrics of {name}: {counted}, and the usage is {used}")
    for owner, known in sorted(expected.sent.items()):
        counted = now.http[owner] - before.http[owner]
        if counted != known:
            wrong.append(f"HTTP requests of {owner}: {counted}, and it has sent {known}")
    return wrong
