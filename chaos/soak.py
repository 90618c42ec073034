"""``python -m chaos soak --tasks 100000``: a day's work in minutes. Nothing may grow, and all must be counted once.

Records, artifacts and batches live for seconds, so that each of them goes through its whole life during the run. It
ends by itself, with status 1 if something has grown or the counters differ from what the callers have counted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from chaos import report
from chaos.console import say
from chaos.flatness import Growth, measure
from chaos.results import read_commit
from chaos.soak_callers import CALLERS, Run
from chaos.soak_counts import CallerCounts, compare, read_counts
from chaos.soak_samples import ResourceSampler
from chaos.system import UNHURRIED, System, wait_for
from graycat.broker.keys import UNCOUNTED
from graycat.flower.app import MAX_TASKS
from tests.support.boxes import FAKE
from tests.support.images import start_command
from tests.support.processes import eventually
from tests.support.servers import http_server, reply

#: Seconds that records, events, artifacts and batches are kept.
KEPT_S = 15
#: Of the run, so much is warm-up: pools, caches and lists that have a bound fill up.
WARM_UP = 0.3
#: Seconds between two samples, and until all that was accepted has ended and is counted.
SAMPLE_S, END_S = 2.0, 180.0
#: With fewer samples, growth cannot be told from noise.
LEAST_SAMPLES = 20
#: With so many tasks Flower has had all that it keeps before the warm-up is over.
FLOWER_FULL = int(MAX_TASKS * 1.2 / WARM_UP)
#: Seconds between two lines that tell how far it is.
TELL_S = 30.0
ENV = {
    **UNHURRIED,
    "GRAYCAT_RECORD_TTL_S": str(KEPT_S),
    "GRAYCAT_EVENTS_TTL_S": str(KEPT_S),
    "GRAYCAT_ARTIFACT_TTL_S": str(KEPT_S),
    "GRAYCAT_BATCH_TTL_S": str(KEPT_S * 4),
    "GRAYCAT_WEBHOOK_ALLOW": "127.0.0.1/32",
    "STARTUP_COMMAND": f"{FAKE} --port {{port}}",
    "SD_STARTUP_COMMAND": start_command(step_s=0),
}


def soak(system: System, hook_url: str, tasks: int) -> list[str]:
    """Run so many tasks through a system; return what is wrong."""
    eventually(lambda: not system.redis().zcard(UNCOUNTED), END_S)
    before = read_counts(system)
    expected = CallerCounts()
    run = Run(system, expected, hook_url, tasks)
    sampler = ResourceSampler(system, SAMPLE_S)
    began = time.monotonic()
    threads = [threading.Thread(target=run.call, args=(caller,), daemon=True) for caller in CALLERS]
    for thread in [*threads, sampler.thread]:
        thread.start()
    pause, told = threading.Event(), began
    while any(thread.is_alive() for thread in threads):
        pause.wait(1.0)
        if time.monotonic() > told + TELL_S:
            told = time.monotonic()
            say(f"{expected.begun:8} of {tasks} tasks after {time.monotonic() - began:.0f} s")
    sampler.stop()
    run.finish()
    wrong = [*run.troubles, *sampler.troubles]
    if not wait_for(lambda: not compare(read_counts(system), before, expected), END_S, 1.0):
        wrong += compare(read_counts(system), before, expected)
    say(f"{sum(expected.ended.values())} tasks in {time.monotonic() - began:.0f} s: {dict(expected.kinds)}")
    if len(sampler.samples) < LEAST_SAMPLES:
        wrong.append(f"{len(sampler.samples)} samples are too few to tell growth: have it run more tasks")
    growths = measure(sampler.samples, WARM_UP)
    if expected.begun < FLOWER_FULL:
        say(f"not told for less than {FLOWER_FULL} tasks: Flower's memory, which fills with the newest tasks")
        growths = [growth for growth in growths if growth.name != "memory of flower (MB)"]
    return wrong + judge(growths) + find_left(system)


def judge(growths: list[Growth]) -> list[str]:
    """Print the table of what was measured; return what has grown."""
    say(f"{'':44} {'median':>10} {'grown':>9} {'noise':>9} {'allowed':>9}")
    wrong = []
    for growth in growths:
        verdict = "" if growth.is_flat else "  GROWS"
        numbers = f"{growth.median:10.1f} {growth.grown:9.1f} {growth.noise:9.1f} {growth.allowed:9.1f}"
        say(f"{growth.name:44} {numbers}{verdict}")
        if not growth.is_flat:
            wrong.append(f"{growth.name} grows by {growth.grown:.1f}, and its noise is {growth.noise:.1f}")
    return wrong


def find_left(system: System) -> list[str]:
    """Return what is left when the lifetimes of all are over."""
    patterns = ("task:*", "events:*", "artifact*", "turn.*", "aside.*", "owners:*", "batch:*", "preview:*")

    def left() -> dict[str, int]:
        found = {}
        for pattern in patterns:
            number = sum(1 for _ in system.redis().scan_iter(f"graycat:{pattern}", count=1000))
            if number:
                found[pattern] = number
        return found

    if wait_for(lambda: not left(), KEPT_S * 6 + 60.0, 1.0):
        return []
    return [f"{number} keys {pattern} outlive their time" for pattern, number in left().items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, report, and return the exit status."""
    commit = read_commit()
    parser = argparse.ArgumentParser(prog="chaos soak", description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--write", action="store_true", help="write what was found into docs/reliability.md")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="chaos-soak-", ignore_cleanup_errors=True) as folder,
        http_server({"POST /hook": reply(200, {})}) as receiver,
    ):
        system = System(Path(folder), ENV)
        try:
            system.start()
            wrong = soak(system, f"{receiver.url}/hook", options.tasks)
            system.stop()
        finally:
            system.kill_all()
    for text in wrong:
        say(f"WRONG: {text}")
    verdict = f"{len(wrong)} things are wrong" if wrong else "nothing grows, and all is counted once"
    say(verdict)
    if options.write:
        report.write_row("make chaos ARGS=soak", f"{options.tasks} tasks", verdict, commit)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
