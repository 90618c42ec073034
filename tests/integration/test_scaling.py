"""What an orchestrator does to workers by ``graycat scale-hint``; the whole of it is ``python -m bench.scaling``."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import eventually
from tests.support.stack import START_S, STOP_S
from tests.support.supervised import TOLD_S, Supervised


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Supervised]:
    """Yield a stack without a worker; the model of an engine is never loaded."""
    home = tmp_path / "home"
    home.mkdir()
    started = Supervised(home, options=f"--loads-until {home / 'never'}", GRAYCAT_METRICS_TOKEN="m" * 16)
    try:
        started.begin()
        yield started
    finally:
        started.kill_all()


def scale(stack: Supervised) -> dict[str, Any]:
    """Return what the server says of the text workers."""
    headers = {"Authorization": f"Bearer {'m' * 16}"}
    found: dict[str, Any] = stack.client().get("/status", headers=headers).json()["scale"]["llm"]
    return found


def test_a_worker_that_is_stopped_while_its_engine_loads_leaves_nothing(stack: Supervised) -> None:
    stack.launch("llm")
    eventually(lambda: stack.row().get("state") == "loading", START_S)
    # What the server shows is half a second old at most.
    eventually(lambda: scale(stack)["starting"] == 1, TOLD_S)
    assert (scale(stack)["hint"], scale(stack)["serving"]) == (1, 0)
    stack.send_signal("llm", signal.SIGTERM)
    assert stack.wait("llm", STOP_S) == 0
    left = stack.command_lines().values()
    assert not [line for line in left if "llama_server" in line or "worker llm" in line or "shim" in line]
    # It has said goodbye: nobody waits for it to be missed.
    assert stack.redis().zrange("graycat:fleet.llm", 0, -1) == []
