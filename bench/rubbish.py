"""``python -m bench.rubbish --minutes 60``: rubbish in the broker beside streams and batches, for a long time.

It starts ``graycat up`` with a real text engine and the placeholder for images, and ends with status 1 if a stream
broke, an image failed, a process ended, or the memory or the open files of one grew.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests

from bench.rubbish_kinds import Rubbish
from tests.support.stack import Stack, running
from tests.support.unity import BrokenAnswer, V3Reader, send_post

#: Streams at a time, tokens of each, and pieces of rubbish a second.
STREAMS, TOKENS, RATE = 4, 60, 10.0
#: Images of a batch, and seconds between two batches.
BATCH_IMAGES, BATCH_PAUSE_S = 40, 20.0
IMAGE = {"width": 64, "height": 64, "steps": 4}
#: Seconds between two looks at the memory.
SAMPLE_S = 5.0
#: A process may be larger at the end than after a tenth of the time by this much, whichever is more.
GROWTH_MB, GROWTH_RATIO = 8.0, 0.1
#: Seconds that anything gets to end.
END_S = 120.0
#: So many more files and connections it may have open.
GROWTH_FILES = 20
#: What graycat keeps on purpose is full after a tenth of an hour, so that growth after that is a leak.
ENV = {
    "RUN_SD": "true",
    "GRAYCAT_LLM_PROMPT_CACHE_MIB": "64",
    "GRAYCAT_RECORD_TTL_S": "240",
    "GRAYCAT_ARTIFACT_TTL_S": "240",
    "GRAYCAT_BATCH_TTL_S": "240",
}
#: What the processes are called here, by a part of their command lines.
LABELS = {
    "valkey-server": "broker's server",
    "graycat.engines.embedded": "text engine",
    "graycat.engines.placeholder": "image engine",
    "shim": "shims",
}
_UNEXPECTED = re.compile(r'unexpected error.* where=("[^"]*"|\S+) ')


Look = tuple[float, dict[str, float]]


@dataclass
class Seen:
    """What happened."""

    streams: Counter[str] = field(default_factory=Counter)
    items: Counter[str] = field(default_factory=Counter)
    pieces: Counter[str] = field(default_factory=Counter)
    #: For each look: seconds since the beginning, and megabytes or open files by process.
    memory: list[Look] = field(default_factory=list)
    files: list[Look] = field(default_factory=list)
    #: Processes that were there at the beginning and have ended.
    ended: set[str] = field(default_factory=set)


class Run:
    """The load and the looks, each in a thread, until ``over`` is set."""

    def __init__(self, stack: Stack, seed: int, rate: float) -> None:
        self._stack = stack
        self._rate = rate
        self._rubbish = Rubbish(stack.redis(), seed)
        self._over = threading.Event()
        self._began = time.monotonic()
        self._first = {pid: line for pid, line in stack.command_lines().items() if _label(line)}
        self.seen = Seen()

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Run everything for the block."""
        jobs: list[Callable[[], None]] = [self._play] * STREAMS + [self._batches, self._litter, self._look]
        threads = [threading.Thread(target=job, daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        yield
        self._over.set()
        for thread in threads:
            thread.join(END_S)
            if thread.is_alive():
                self.seen.streams["hanging"] += 1

    def _play(self) -> None:
        body = {"prompt": "Once upon a time", "n_predict": TOKENS, "ignore_eos": True, "stream": True}
        while not self._over.is_set():
            self.seen.streams["begun"] += 1
            try:
                with send_post(self._stack.url, "/completion", body, self._stack.token) as connection:
                    answer = V3Reader().read(connection)
            except (BrokenAnswer, OSError) as error:
                self.seen.streams[f"broken: {str(error)[:100]}"] += 1
                self._over.wait(1.0)
            else:
                self.seen.streams["whole" if len(answer.tokens) == TOKENS else "broken: short"] += 1

    def _batches(self) -> None:
        """Submit one batch after the other, each when the one before has ended."""
        headers = {"Authorization": f"Bearer {self._stack.token}"}
        number = 0
        while not self._over.wait(BATCH_PAUSE_S if number else 0.0):
            number += 1
            items = [f"image {number}-{item}" for item in range(BATCH_IMAGES)]
            document = {"name": f"batch {number}", "items": items, "defaults": IMAGE}
            url = f"{self._stack.url}/batches"
            try:
                batch_id = requests.post(url, json=document, headers=headers, timeout=30).json()["id"]
                self._follow(f"{url}/{batch_id}", headers)
            except (requests.RequestException, KeyError, ValueError) as error:
                self.seen.items[f"lost: {type(error).__name__}"] += 1

    def _follow(self, url: str, headers: dict[str, str]) -> None:
        """Wait for the end of a batch, also past the end of the run, and count its items."""
        deadline = time.monotonic() + END_S * 5
        pause = threading.Event()
        while True:
            batch = requests.get(url, headers=headers, timeout=30).json()
            is_late = time.monotonic() > deadline
            if batch["state"] not in ("queued", "running", "waiting") or self._over.is_set() or is_late:
                break
            pause.wait(0.5)
        self.seen.items["done"] += batch["progress"]["done"]
        self.seen.items["failed"] += batch["progress"].get("failed", 0)
        if is_late or batch["state"] in ("failed", "paused"):
            self.seen.items[f"stuck: {batch['state']}"] += 1

    def _litter(self) -> None:
        due = time.monotonic()
        while self._rate and not self._over.wait(max(due - time.monotonic(), 0)):
            self.seen.pieces[self._rubbish.send()] += 1
            due += 1 / self._rate

    def _look(self) -> None:
        while not self._over.wait(SAMPLE_S):
            lines = self._stack.command_lines()
            sizes: dict[str, float] = defaultdict(float)
            files: dict[str, float] = defaultdict(float)
            for pid, line in lines.items():
                label = _label(line)
                if label:
                    sizes[label] += _pss_mb(pid)
                    files[label] += _open_files(pid)
            now = time.monotonic() - self._began
            self.seen.memory.append((now, dict(sizes)))
            self.seen.files.append((now, dict(files)))
            self.seen.ended |= {_label(line) for pid, line in self._first.items() if pid not in lines}


def _label(line: str) -> str:
    """Return what a process is called here; '' for one that is no part of it."""
    for part, label in LABELS.items():
        if part in line:
            return label
    _, found, command = line.rpartition("/graycat ")
    return command if found else ""


def _pss_mb(pid: int) -> float:
    """Return a process's share of the memory; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _open_files(pid: int) -> int:
    """Return how many files and connections a process has open; 0 if it is gone."""
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0


def report(seen: Seen, output: str, stats: str) -> list[str]:
    """Print what happened; return the bars that were missed."""
    missed = []
    broken = {how: count for how, count in seen.streams.items() if how not in ("begun", "whole")}
    _say(f"streams: {seen.streams['begun']} begun, {seen.streams['whole']} whole, broken: {broken or 0}")
    if broken or not seen.streams["whole"]:
        missed.append("streams")
    _say(f"batch items: {dict(seen.items)}")
    if set(seen.items) - {"done", "failed"} or seen.items["failed"] or not seen.items["done"]:
        missed.append("batches")
    _say(f"rubbish: {sum(seen.pieces.values())} pieces of {len(seen.pieces)} kinds; {stats}")
    _say(f"unexpected, by where: {dict(Counter(_UNEXPECTED.findall(output)))}")
    _say(f"ended processes: {sorted(seen.ended) or 0}")
    if seen.ended:
        missed.append("processes")
    _say(f"{'process':24} {'at 10 %':>9} {'at end':>9} {'MB an hour':>11} {'files':>7} {'at end':>7}")
    for label in sorted({label for _, sizes in seen.memory for label in sizes}):
        early, late, slope = _growth(seen.memory, label)
        files, files_late, _ = _growth(seen.files, label)
        _say(f"{label:24} {early:9.1f} {late:9.1f} {slope:11.1f} {files:7.0f} {files_late:7.0f}")
        if late - early > max(GROWTH_MB, GROWTH_RATIO * early):
            missed.append(f"memory of {label}")
        if files_late - files > GROWTH_FILES:
            missed.append(f"files of {label}")
    return missed


def _growth(looks: list[Look], label: str) -> tuple[float, float, float]:
    """Return the amount after a tenth of the time and at the end, and the slope between (an hour)."""
    samples = [(at, amounts.get(label, 0.0)) for at, amounts in looks]
    tenth = len(samples) // 10
    later = samples[tenth:]
    window = max(len(samples) // 20, 2)
    early = statistics.median(amount for _, amount in later[:window])
    late = statistics.median(amount for _, amount in later[-window:])
    slope, _ = statistics.linear_regression([at for at, _ in later], [amount for _, amount in later])
    return early, late, slope * 3600


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run, report, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=RATE, help="pieces of rubbish a second; 0: none")
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--log", type=Path, help="write what the processes print to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="graycat-rubbish-") as folder:
        with running(Stack(Path(folder), env=ENV)) as stack:
            run = Run(stack, options.seed, options.rate)
            with run.going_on():
                threading.Event().wait(options.minutes * 60)
            memory, keys = stack.redis().info("memory")["used_memory"] / 2**20, stack.redis().dbsize()
            output = stack.output
        if options.log:
            options.log.write_text(output)
        missed = report(run.seen, output, f"the broker has {keys} keys in {memory:.1f} MB")
    _say(f"missed: {', '.join(missed)}" if missed else "every bar is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
