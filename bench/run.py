"""``make bench``: measure this copy, and write the table in docs/performance.md."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import batches, fairness, images, load, polling, scrapes
from bench.engine_ratio import Target, compare
from bench.fake import fake_engine
from graycat.engines.models.packaged import assemble_gemma
from tests.support.stack import ROOT, Stack, running

REPORT = ROOT / "docs" / "performance.md"
MARK = "<!-- below this line: written by make bench -->"
#: The limits that graycat sets itself; differences in ms, ratios without a unit.
GOALS = {"tok": 4.0, "ttft": 6.0, "tps@1": 0.97, "tps@4": 0.97}
#: What is measured with an engine that answers at once.
AT_ONCE = ("calls", "streams", "polling", "fairness", "scrapes", "batches")


def against_the_engine(home: Path, rounds: int) -> list[str]:
    """Return the table rows of the ratios to the bare engine."""
    # The model that was measured from the beginning.
    env = {"MODEL_URL": str(assemble_gemma(home / "models" / "text"))}
    with running(Stack(home, env=env)) as stack:
        medians = compare(Target(stack.llm_url), Target(stack.url, stack.token), rounds)
    rows = []
    for name, (bare, ours) in medians.items():
        goal = GOALS[name]
        if name.startswith("tps"):
            rows.append(f"| {name}, tokens a second | {bare:.1f} | {ours:.1f} | x {ours / bare:.3f} | x {goal} |")
        else:
            rows.append(f"| {name}, ms | {bare:.2f} | {ours:.2f} | + {ours - bare:.2f} | + {goal:g} |")
    return rows


def images_against_the_engine(home: Path, rounds: int) -> list[str]:
    """Return the table rows of images, with an engine whose steps take no time."""
    env = {"RUN_LLM": "false", "RUN_SD": "true", "SD_STARTUP_COMMAND": images.START_COMMAND}
    with running(Stack(home, env=env)) as stack:
        medians = images.compare(Target(stack.sd_url), Target(stack.url, stack.token), rounds)
    return [
        f"| {name}, 512 x 512, ms | {bare:.1f} | {ours:.1f} | + {ours - bare:.1f} | + {images.GOALS[name]:g} |"
        for name, (bare, ours) in medians.items()
    ]


def calls(home: Path, seconds: float) -> str:
    """Return the row of many short calls."""
    with fake_engine() as engine, running(Stack(home, env={"LLAMA_SERVER_URL": engine})) as stack:
        message = load.request(stack.url, stack.token, "/tokenize", {"content": "hello world"})
        asyncio.run(load.calls(stack.url, message, clients=32, seconds=1))
        result = asyncio.run(load.calls(stack.url, message, clients=32, seconds=seconds))
    return (
        f"| `/tokenize`, 32 clients | {result.rate:.0f} a second | p50 {result.percentile(50):.0f} ms, "
        f"p95 {result.percentile(95):.0f} ms | 500 a second, p95 100 ms |"
    )


def streams(home: Path, clients: int, tokens: int) -> str:
    """Return the row of many slow streams."""
    options = ("--slots", str(clients), "--interval", "1.0")
    with fake_engine(*options) as engine, running(Stack(home, env={"LLAMA_SERVER_URL": engine})) as stack:
        message = load.request(
            stack.url, stack.token, "/completion", {"prompt": "x", "n_predict": tokens, "stream": True}
        )
        result = asyncio.run(load.streams(stack.url, message, clients))
        memory_mb, threads = web_size(stack)
    return (
        f"| {clients} streams, a token a second each | p50 {result.percentile(50):.0f} ms, p99 "
        f"{result.percentile(99):.0f} ms, longest {max(result.times_ms):.0f} ms | web {memory_mb:.0f} MB, "
        f"{threads} threads | 250 ms, 300 MB |"
    )


def web_size(stack: Stack) -> tuple[float, int]:
    """Return peak memory (MB) and threads of the web process that serves."""
    statuses = [
        Path(f"/proc/{pid}/status").read_text() for pid, line in stack.command_lines().items() if "graycat web" in line
    ]
    values = [dict(row.split(":", 1) for row in status.splitlines()) for status in statuses]
    return max(int(value["VmHWM"].split()[0]) for value in values) / 1024, max(
        int(value["Threads"]) for value in values
    )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--only", choices=("engine", "images", *AT_ONCE))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="graycat-bench-") as folder:
        lines = [f"Measured {time.strftime('%Y-%m-%d')}.", ""]
        if options.only in (None, "engine", "images"):
            lines += ["| | bare engine | graycat | difference | goal |", "|---|---|---|---|---|"]
        if options.only in (None, "engine"):
            lines += against_the_engine(Path(folder) / "engine", options.rounds)
        if options.only in (None, "images"):
            lines += images_against_the_engine(Path(folder) / "images", options.rounds)
        lines.append("")
        if options.only in (None, *AT_ONCE):
            lines += ["| with an engine that answers at once | | | goal |", "|---|---|---|---|"]
        if options.only in (None, "calls"):
            lines.append(calls(Path(folder) / "calls", options.seconds))
        if options.only in (None, "streams"):
            lines.append(streams(Path(folder) / "streams", options.streams, tokens=12))
        rows: dict[str, Callable[[Path], str]] = {
            "polling": lambda home: polling.row(home, options.seconds),
            "fairness": fairness.row,
            "scrapes": lambda home: scrapes.row(home, options.seconds),
            "batches": batches.row,
        }
        lines += [row(Path(folder) / name) for name, row in rows.items() if options.only in (None, name)]
    sys.stdout.write("\n".join(lines) + "\n")
    if options.only is None:
        kept = REPORT.read_text().partition(MARK)[0]
        REPORT.write_text(kept + MARK + "\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
