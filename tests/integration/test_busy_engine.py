"""An image engine that answers nothing while it renders: its silence is no outage."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from graycat.engines.base import PROBE_TIMEOUT_S
from graycat.engines.process.supervisor import HEALTH_INTERVAL_S
from tests.support.images import ANNA, QUICK, ImageStack
from tests.support.processes import eventually
from tests.support.stack import REQUEST_S, START_S, running

#: Steps of a render, at a fiftieth of a second each, that lasts for longer than a silent engine would be left alone.
KILL_AFTER_S = 6.0
SILENT_S = KILL_AFTER_S + KILL_AFTER_S / 2 + HEALTH_INTERVAL_S + PROBE_TIMEOUT_S
LONG = {"width": 64, "height": 64, "steps": 130, "n_iter": 6, "prompt": "a long one"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageStack]:
    home = tmp_path_factory.mktemp("busy") / "home"
    with running(ImageStack(home, single="", env={"GRAYCAT_ENGINE_KILL_AFTER_S": str(KILL_AFTER_S)})) as started:
        yield started


def states(stack: ImageStack) -> str:
    """Return the state of the image worker's engine."""
    rows = requests.get(f"{stack.url}/ready", timeout=REQUEST_S).json()["workers"]
    return str(next(row["state"] for row in rows if row["name"].startswith("sd@")))


def test_a_render_during_which_nothing_is_answered_is_no_outage(stack: ImageStack) -> None:
    engine = stack.engine_pid()
    seen, pause = set(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        render = pool.submit(stack.caller(ANNA).post, "/sdapi/v1/txt2img", LONG)
        while not render.done():
            seen.add(states(stack))
            pause.wait(0.2)
        took_s = time.monotonic() - began
    assert took_s > SILENT_S
    assert render.result().status_code == 200
    assert len(render.result().json()["images"]) == 6
    assert seen == {"ready"}
    assert stack.engine_pid() == engine
    # Rendered once.
    assert stack.asked().count("a long one") == 1


def test_one_that_is_silent_without_a_render_is_stuck_and_started_anew(stack: ImageStack) -> None:
    engine = eventually(stack.engine_pid, START_S)
    assert engine is not None
    os.kill(engine, signal.SIGSTOP)
    eventually(lambda: states(stack) == "stuck", START_S)
    eventually(lambda: stack.engine_pid() not in (None, engine) and states(stack) == "ready", START_S)
    assert stack.caller(ANNA).post("/sdapi/v1/txt2img", QUICK).status_code == 200
