"""A box in a network of its own: a namespace whose only way out is a cable to this one, which can be pulled."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


def ip(*words: str) -> subprocess.CompletedProcess[str]:
    """Run ``ip``."""
    return subprocess.run(["ip", *words], check=False, capture_output=True, text=True)


@dataclass(frozen=True)
class Network:
    """``home`` and ``box``: the two ends' addresses, each other's only one."""

    name: str
    home: str
    box: str

    @property
    def prefix(self) -> list[str]:
        """Return what runs a command on the box."""
        return ["ip", "netns", "exec", self.name]

    def cable(self, state: str) -> None:
        """Pull the cable (``down``), or put it back (``up``)."""
        done = ip("link", "set", f"{self.name}h", state)
        assert done.returncode == 0, done.stderr

    def listeners(self) -> dict[int, str]:
        """Return the ports that anybody listens on in the box's network, each with its address."""
        done = ip("netns", "exec", self.name, "cat", "/proc/net/tcp")
        found = {}
        for line in done.stdout.splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            if state == "0A":
                quads = re.findall("..", address.partition(":")[0])
                found[int(address.partition(":")[2], 16)] = ".".join(str(int(quad, 16)) for quad in reversed(quads))
        return found


@contextmanager
def network() -> Iterator[Network]:
    """Make a network for the block; skip the test where this user cannot."""
    number = os.getpid() % 250
    made = Network(f"gc{os.getpid()}", f"10.231.{number}.1", f"10.231.{number}.2")
    end = f"{made.name}h"
    commands = (
        f"netns add {made.name}",
        f"link add {end} type veth peer name eth0 netns {made.name}",
        f"address add {made.home}/30 dev {end}",
        f"link set {end} up",
        f"-n {made.name} address add {made.box}/30 dev eth0",
        f"-n {made.name} link set eth0 up",
        f"-n {made.name} link set lo up",
    )
    try:
        for command in commands:
            done = ip(*command.split())
            if done.returncode and not os.environ.get("CI"):
                pytest.skip(f"a network of its own needs root: ip {command}: {done.stderr.strip()}")
            assert done.returncode == 0, f"ip {command}: {done.stderr}"
        yield made
    finally:
        # The cable goes with it.
        ip("netns", "del", made.name)
        assert not Path(f"/run/netns/{made.name}").exists()
