"""Memory, connections and descriptors at their limits."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from functools import partial
from pathlib import Path

from chaos.faults import BREAKS, ENDS, REFUSES, Fault
from chaos.system import System

#: Seconds for which something is at its limit.
LIMITED_S = 4.0


def fill_broker(system: System) -> None:
    """Give the broker no more memory than it has."""
    broker = system.redis()
    before = broker.config_get("maxmemory")["maxmemory"]
    broker.config_set("maxmemory", 1024 * 1024)
    try:
        time.sleep(LIMITED_S)
    finally:
        broker.config_set("maxmemory", before)
        system.harm_done()


def crowd_broker(system: System) -> None:
    """Open so many connections to the broker that it takes no more."""
    broker = system.redis()
    before = broker.config_get("maxclients")["maxclients"]
    most = int(broker.info("clients")["connected_clients"]) + 10
    broker.config_set("maxclients", most)
    with contextlib.ExitStack() as held:
        for _ in range(12):
            connection = held.enter_context(socket.socket(socket.AF_UNIX))
            connection.connect(str(system.stack.settings.broker_socket))
        time.sleep(LIMITED_S)
        broker.config_set("maxclients", before)
    system.harm_done()


def take_descriptors(part: str, system: System) -> None:
    """Let a process open no more files and connections for some seconds."""
    pid = system.pid(part)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    # The lowest number that is free: whatever it opens next fails.
    held = {int(name) for name in os.listdir(Path("/proc") / str(pid) / "fd")}
    free = next(number for number in range(len(held) + 1) if number not in held)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        time.sleep(LIMITED_S)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        system.harm_done()


FAULTS = [
    Fault("broker full", "memory", f"the broker has no memory left for {LIMITED_S:g} s", fill_broker,
          permits=REFUSES | ENDS),
    Fault("broker crowded", "memory", f"the broker takes no more connections for {LIMITED_S:g} s", crowd_broker,
          permits=REFUSES | ENDS),
    Fault("web without descriptors", "memory", f"web can open nothing for {LIMITED_S:g} s",
          partial(take_descriptors, "web server"), permits=BREAKS | REFUSES | ENDS),
    Fault("llm without descriptors", "memory", f"the text worker can open nothing for {LIMITED_S:g} s",
          partial(take_descriptors, "llm")),
    Fault("sd without descriptors", "memory", f"the image worker can open nothing for {LIMITED_S:g} s",
          partial(take_descriptors, "sd")),
]  # fmt: skip
