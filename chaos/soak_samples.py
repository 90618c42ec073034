"""Samples of what must not grow in a soak: memory, threads and files of each process, and the broker's keys."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from chaos.flatness import Sample
from chaos.system import System

#: What is kept for longer than any run, because it is promised for so long: how deliveries went (an hour), and the ids
#: of an owner's tasks (a week).
KEPT_KEYS = ("delivery", "hook")
KEPT_LISTS = "graycat:listed:*"
#: Folders of a home that fill on purpose: finished images, and logs.
PRODUCTS = ("batches", "log")


class ResourceSampler:
    """Takes a sample every few seconds until it is stopped."""

    def __init__(self, system: System, every_s: float) -> None:
        self._system = system
        self._every_s = every_s
        self._stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.samples: list[Sample] = []
        self.troubles: list[str] = []
        self._pids = system.pids()

    def stop(self) -> None:
        """Stop. A process that has ended meanwhile is a trouble."""
        self._stopping.set()
        self.thread.join(60.0)
        for name, pid in self._system.pids().items():
            if self._pids.get(name) not in (None, pid):
                self.troubles.append(f"{name} has ended and was started again")

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self._every_s):
                self.samples.append((time.monotonic(), self._sample()))
        except Exception as error:  # noqa: BLE001 (whatever it is, the verdict tells of it)
            self.troubles.append(f"no more samples: {type(error).__name__}: {error}")

    def _sample(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, pid in self._pids.items():
            found |= sample_process(name, pid)
        found |= sample_broker(self._system.redis())
        found["files of the home"] = float(count_files(self._system.home))
        return found


def sample_process(name: str, pid: int) -> dict[str, float]:
    """Return what a process holds. Raises OSError if it has ended."""
    folder = Path("/proc") / str(pid)
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    rollup = (folder / "smaps_rollup").read_text().splitlines()
    share = sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    return {
        f"memory of {name} (MB)": share / 1024,
        f"threads of {name}": float(status["Threads"]),
        f"files open in {name}": float(len(os.listdir(folder / "fd"))),
    }


def sample_broker(broker: Any) -> dict[str, float]:
    """Return how many keys the broker has, by their first word, and its memory without what is kept on purpose."""
    counts: Counter[str] = Counter()
    for key in broker.scan_iter(count=5000):
        word = key.removeprefix("graycat:").partition(":")[0].partition(".")[0]
        if word not in KEPT_KEYS:
            counts[word] += 1
    kept = sum(broker.memory_usage(key, samples=0) or 0 for key in broker.scan_iter(KEPT_LISTS, count=5000))
    used = broker.info("memory")["used_memory"] - kept
    found = {f"keys {word}": float(number) for word, number in counts.items() if number > 1}
    return found | {"memory of the broker's data (MB)": used / 2**20, "keys": float(sum(counts.values()))}


def count_files(home: Path) -> int:
    """Return how many files a home has beside its products."""
    return sum(1 for path in home.rglob("*") if path.relative_to(home).parts[0] not in PRODUCTS)
