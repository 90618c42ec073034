"""``python -m bench.hostile --minutes 10``: thousands of hostile connections beside 20 honest streams.

It starts ``graycat up`` with an engine that says when it wrote each token, measures ``/health`` and the streams by
themselves, and then under attack: from many addresses for the first half of the time, from one for the second. It ends
with status 1 if ``/health`` was slow, a token late, a stream broken, or the memory above what the settings allow.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import load
from bench.fake import fake_engine
from graycat.settings import Settings
from tests.support.stack import ROOT, Stack, running

#: Honest streams at a time, tokens of each, and seconds between two tokens.
STREAMS, TOKENS, TOKEN_S = 20, 50, 0.1
#: The address of the honest: no proxy's, and none of the hostile ones.
HONEST = ("127.0.3.1", 0)
#: Seconds between two questions for /health, and after which one counts as not answered.
PROBE_S, PROBE_TIMEOUT_S = 0.05, 5.0
#: Seconds between two looks at the memory.
SAMPLE_S = 2.0
#: The bars: /health in ms; a token in ms, against the same streams alone.
HEALTH_MS, LATE_MS = 250.0, 250.0
#: The bodies and stored bytes that are allowed here, and the broker's memory, in MiB.
BODIES_MIB, STORED_MIB, BROKER_MIB = 64, 64, 256
#: What a connection may cost (MB), and a byte of a body while its JSON is read.
CONNECTION_MB, BODY_FACTOR = 0.06, 3.0
ENV = {
    "GRAYCAT_MAX_BODIES_BYTES": str(BODIES_MIB << 20),
    "GRAYCAT_STORED_BYTES": str(STORED_MIB << 20),
    "GRAYCAT_BROKER_MAX_MEMORY_MIB": str(BROKER_MIB),
    "GRAYCAT_MAX_BODY_BYTES": str(4 << 20),
}


@dataclass
class Seen:
    """What was measured in one part of the time; times in milliseconds, memory in MB."""

    health_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)
    web_mb: list[float] = field(default_factory=list)
    broker_mb: list[float] = field(default_factory=list)
    #: When the latest token came, in seconds since the beginning.
    latest_s: float = 0.0
    whole_streams: int = 0


class Part:
    """Honest load and looks, for one part of the time."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        body: dict[str, object] = {"prompt": "x", "n_predict": TOKENS, "stream": True}
        self._stream = load.request(stack.url, stack.token, "/completion", body)
        self._health = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        self._began = self._end = self._latest_ms = 0.0
        self.seen = Seen()

    async def run(self, seconds: float) -> None:
        """Measure for so long; streams that have begun are read to their end."""
        self._began = time.monotonic()
        self._end = self._began + seconds
        await asyncio.gather(self._probe(), self._look(), *(self._play(number) for number in range(STREAMS)))

    async def _probe(self) -> None:
        while time.monotonic() < self._end:
            began = time.monotonic()
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S), self._connected() as (reader, writer):
                    writer.write(self._health)
                    answer = await reader.read()
                if not answer.startswith(b"HTTP/1.1 200"):
                    self.seen.problems[f"health: {answer[:12].decode()}"] += 1
            except OSError as error:
                self.seen.problems[f"health: {type(error).__name__}"] += 1
            self.seen.health_ms.append((time.monotonic() - began) * 1000)
            await asyncio.sleep(max(began + PROBE_S - time.monotonic(), 0))

    async def _play(self, number: int) -> None:
        await asyncio.sleep(number / STREAMS)
        while time.monotonic() < self._end:
            try:
                async with asyncio.timeout(TOKENS * TOKEN_S * 3 + 30), self._connected() as (reader, writer):
                    writer.write(self._stream)
                    await self._read(reader)
                self.seen.whole_streams += 1
            except (OSError, ValueError) as error:
                self.seen.problems[f"stream: {error or type(error).__name__}"] += 1

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            line = await reader.readline()
            arrived = time.time()
            if not line:
                raise ValueError("broke off")
            if not line.startswith(b"data: "):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise ValueError(event["error"]["type"])
            if event["stop"]:
                return
            late_ms = (arrived - float(event["content"])) * 1000
            if late_ms > self._latest_ms:
                self._latest_ms = late_ms
                self.seen.latest_s = time.monotonic() - self._began
            self.seen.late_ms.append(late_ms)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._stack.port, local_addr=HONEST)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def _look(self) -> None:
        while time.monotonic() < self._end:
            web, broker = await asyncio.to_thread(sizes, self._stack)
            self.seen.web_mb.append(web)
            self.seen.broker_mb.append(broker)
            await asyncio.sleep(SAMPLE_S)


def sizes(stack: Stack) -> tuple[float, float]:
    """Return the memory of the web process and of the broker's server, in MB."""
    web = broker = 0.0
    for pid, line in stack.command_lines().items():
        if line.endswith("/graycat web"):
            web += resident_mb(pid)
        elif "valkey-server" in line:
            broker += resident_mb(pid)
    return web, broker


def resident_mb(pid: int) -> float:
    """Return a process's own share of the memory; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def attack(stack: Stack, options: argparse.Namespace, seconds: float, addresses: int) -> tuple[Seen, dict[str, int]]:
    """Measure under attack; return what was seen, and what became of the attack."""
    command = [sys.executable, "-m", "bench.hostile_load", f"--port={stack.port}", f"--token={options.hostile_token}"]
    command += [f"--seconds={seconds}", f"--addresses={addresses}", f"--rate={options.rate}", *options.hostile]
    hostile = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        part = Part(stack)
        asyncio.run(part.run(seconds))
        output, _ = hostile.communicate(timeout=60)
    finally:
        hostile.kill()
        hostile.wait()
    return part.seen, json.loads(output)


def report(name: str, seen: Seen, alone: Seen) -> list[str]:
    """Print what was seen in one part of the time; return the bars that were missed."""
    missed = []
    say(f"-- {name}")
    say(f"/health:       {summary(seen.health_ms)} of {len(seen.health_ms)}")
    if percentile(seen.health_ms, 99) >= HEALTH_MS:
        missed.append(f"/health, {name}")
    say(f"tokens late:   {summary(seen.late_ms)} of {len(seen.late_ms)}, {seen.whole_streams} streams whole")
    say(f"the latest:    {seen.latest_s:.1f} s after the beginning")
    if max(seen.late_ms, default=0.0) - max(alone.late_ms) > LATE_MS:
        missed.append(f"tokens, {name}")
    say(f"problems:      {dict(seen.problems) or 0}")
    if seen.problems or not seen.whole_streams:
        missed.append(f"problems, {name}")
    web_bound = max(alone.web_mb) + Settings().max_connections * CONNECTION_MB + BODIES_MIB * BODY_FACTOR
    for process, sizes_mb, bound in (("web", seen.web_mb, web_bound), ("broker", seen.broker_mb, float(BROKER_MIB))):
        over_time = ", ".join(f"{size:.0f}" for size in sizes_mb[:: max(len(sizes_mb) // 10, 1)])
        say(f"{process + ' MB:':14} {over_time} (most {max(sizes_mb):.0f}, bound {bound:.0f})")
        if max(sizes_mb) > bound:
            missed.append(f"memory of {process}, {name}")
    return missed


def summary(times_ms: list[float]) -> str:
    """Return the percentiles that are of interest."""
    return f"p50 {percentile(times_ms, 50):.0f} ms, p99 {percentile(times_ms, 99):.0f} ms, max {max(times_ms):.0f} ms"


def percentile(times_ms: list[float], percent: int) -> float:
    """Return a percentile."""
    return statistics.quantiles(times_ms, n=100, method="inclusive")[percent - 1]


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run, report, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--rate", type=float, default=500.0, help="hostile connections that are opened a second, at most"
    )
    parser.add_argument("--hostile", nargs="*", default=[], help="options of bench.hostile_load: half-open=0 ...")
    parser.add_argument("--log", type=Path, help="write what the processes print to this file")
    options = parser.parse_args()
    options.hostile = [f"--{option}" for option in options.hostile]
    options.hostile_token = "hostile-" + os.urandom(12).hex()
    seconds = options.minutes * 60 / 2
    slots = ("--slots", str(STREAMS + 12), "--interval", str(TOKEN_S))
    missed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="graycat-hostile-") as folder, fake_engine(*slots) as engine:
        stack = Stack(Path(folder), env={"LLAMA_SERVER_URL": engine, **ENV})
        stack.set_env({"API_TOKENS": f"tests:{stack.token},hostile:{options.hostile_token}"})
        with running(stack):
            alone = Part(stack)
            asyncio.run(alone.run(min(seconds, 60.0)))
            missed += report("alone", alone.seen, alone.seen)
            for name, addresses in (("from 40 addresses", 40), ("from one address", 1)):
                seen, became = attack(stack, options, seconds, addresses)
                missed += report(name, seen, alone.seen)
                say(f"the attack:    {became}")
            output = stack.output
        if options.log:
            options.log.write_text(output)
    say(f"missed: {', '.join(missed)}" if missed else "every bar is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
