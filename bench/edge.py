"""Streams through each proxy of ``graycat edge-config``, which stands still in their middle: how many a game can read.

``python -m bench.edge --stalls 50``: for each proxy so many rounds of 50 streams over TLS, every other one over IPv6.
In each round the proxy is stopped for a second. The reader is as strict as LLM for Unity v3. A broken stream: status 1.
"""

from __future__ import annotations

import argparse
import ssl
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.fake import fake_engine
from graycat.cli.text import say
from graycat.edge.config import PROGRAMS, WITH_TCP
from tests.support.boxes import certificates
from tests.support.edges import Certificates, Edge, running_edge
from tests.support.stack import Stack, free_ports, running
from tests.support.unity import BrokenAnswer, V3Reader, send_post

STREAMS = 50
TOKENS = 60
INTERVAL_S = 0.05
STALL_S = 1.0
STORY = {"prompt": "x", "n_predict": TOKENS, "stream": True}
HOSTS = ("127.0.0.1", "::1")


class Counted:
    """A connection of which somebody is told when its answer begins."""

    def __init__(self, connection: ssl.SSLSocket, begun: threading.Semaphore) -> None:
        self._connection = connection
        self._begun: threading.Semaphore | None = begun

    def recv(self, size: int) -> bytes:
        """Receive as a socket does."""
        data = self._connection.recv(size)
        if self._begun is not None:
            self._begun.release()
            self._begun = None
        return data


def read(edge: Edge, stack: Stack, number: int, begun: threading.Semaphore) -> str:
    """Return what became of one stream: ``whole``, or why it broke."""
    with edge.connect(HOSTS[number % len(HOSTS)]) as connection:
        send_post(stack.url, "/completion", STORY, stack.token, connection=connection)
        answer: Any = Counted(connection, begun)
        try:
            found = V3Reader().read(answer)
        except (BrokenAnswer, OSError) as error:
            return f"{type(error).__name__}: {str(error)[:60]}"
    if len(found.tokens) != TOKENS:
        return f"{len(found.tokens)} of {TOKENS} tokens"
    return "whole"


def one_round(edge: Edge, stack: Stack) -> Counter[str]:
    """Run one round of streams with one stall; return how many ended in which way."""
    begun = threading.Semaphore(0)
    with ThreadPoolExecutor(STREAMS) as pool:
        streams = [pool.submit(read, edge, stack, number, begun) for number in range(STREAMS)]
        for _ in streams:
            begun.acquire(timeout=60)
        with edge.stopped():
            threading.Event().wait(STALL_S)
        return Counter(stream.result() for stream in streams)


def measure(kinds: list[str], stalls: int, interval_s: float, folder: Path) -> int:
    """Print how many streams of each proxy were whole; return how many were not."""
    certificate: Certificates = certificates(folder / "certificates", *HOSTS)
    (proxy_port,) = free_ports(1)
    env = {"GRAYCAT_PROXY_PROTOCOL_PORT": str(proxy_port), "GRAYCAT_FORWARDED_FROM": "127.0.0.1"}
    broken = 0
    with ExitStack() as started:
        slots = str(2 * STREAMS)
        engine = started.enter_context(fake_engine("--interval", str(interval_s), "--slots", slots))
        stack = started.enter_context(running(Stack(folder / "home", env=env | {"LLAMA_SERVER_URL": engine})))
        for kind in kinds:
            total: Counter[str] = Counter()
            with running_edge(kind, folder / kind, certificate, stack.env) as edge:
                for _ in range(stalls):
                    total += one_round(edge, stack)
            count = total.total()
            broken += count - total["whole"]
            say(f"{kind}: {total['whole']} of {count} streams whole, {stalls} stalls of {STALL_S:g} s")
            for reason, number in total.most_common(4):
                if reason != "whole":
                    say(f"  {number} x {reason}")
    return broken


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--stalls", type=int, default=50)
    parser.add_argument("--interval", type=float, default=INTERVAL_S, help="seconds between two tokens of a stream")
    parser.add_argument("--kind", choices=PROGRAMS, action="append", help="default: all that pass on TCP connections")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edge-") as folder:
        broken = measure(arguments.kind or list(WITH_TCP), arguments.stalls, arguments.interval, Path(folder))
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
