"""Ports for servers that tests start: picked now, bound later by another process, and nobody else's meanwhile.

The kernel gives a port to who binds port 0, and gives it to the next who asks as soon as it is closed: with hundreds of
servers in several processes, two of them would now and then get the same.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
from collections.abc import Iterator
from functools import cache

#: Below what the kernel gives away by itself (Linux: from 32768 on, /proc/sys/net/ipv4/ip_local_port_range).
FIRST, LAST = 10_000, 30_000
#: So many belong to one process.
BLOCK = 200


def is_free(port: int, *, keep: bool = False) -> bool:
    """Return whether nobody has bound a port of this machine. ``keep``: this process has it from now on, to its end."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        if keep:
            probe.detach()
    return True


class Block:
    """The ports of this process, each of which is used again as late as possible. It keeps the first of them."""

    def __init__(self) -> None:
        starts = list(range(FIRST, LAST, BLOCK))
        random.shuffle(starts)
        start = next((start for start in starts if is_free(start, keep=True)), None)
        assert start is not None, f"other processes have all ports from {FIRST} to {LAST}"
        self.ports: Iterator[int] = itertools.cycle(range(start + 1, start + BLOCK))


@cache
def block_of(process: int) -> Block:
    """Return the block of a process. What is forked takes one of its own."""
    return Block()


def free_ports(count: int) -> list[int]:
    """Return free ports, all different."""
    all_of_them = itertools.islice(block_of(os.getpid()).ports, BLOCK - 1)
    found = list(itertools.islice(filter(is_free, all_of_them), count))
    assert len(found) == count, f"{count} ports are not free"
    return found


def free_port() -> int:
    """Return a free port."""
    return free_ports(1)[0]


def free_port_range(count: int) -> int:
    """Return the first of ``count`` consecutive free ports."""
    found: list[int] = []
    for port in itertools.islice(block_of(os.getpid()).ports, 2 * BLOCK):
        if not is_free(port) or (found and port != found[-1] + 1):
            found = []
            continue
        found.append(port)
        if len(found) == count:
            return found[0]
    raise AssertionError(f"no {count} consecutive ports are free")
