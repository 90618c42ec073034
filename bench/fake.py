"""The engine that costs nothing, so that what is measured is graycat."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.stack import ROOT, free_ports


@contextmanager
def fake_engine(*options: str) -> Iterator[str]:
    """Run an engine that answers at once, or as slowly as its options say; yield its address."""
    (port,) = free_ports(1)
    command = [sys.executable, str(ROOT / "tests" / "fakes" / "llama_server.py"), "--port", str(port), *options]
    process = subprocess.Popen(command)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
