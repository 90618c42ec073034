"""The wrong clock: a process of Python whose time is set from outside, while what measures goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chaos.clocks import FOLDER, clock_file, procfile, set_clock
from graycat.supervision.specs import parse_procfile

pytestmark = pytest.mark.not_covered

READ = """
import datetime, time
begun = time.monotonic()
time.sleep(0.01)
now = datetime.datetime.now(datetime.UTC)
print(time.time(), time.time_ns() / 1e9, now.timestamp(), isinstance(now, datetime.datetime), time.monotonic() - begun)
"""


@pytest.mark.parametrize("offset_s", [0, 3600, -3600])
def test_a_process_has_the_time_that_it_is_given(tmp_path: Path, offset_s: int) -> None:
    set_clock(tmp_path, "web", offset_s)
    env = os.environ | {"PYTHONPATH": str(FOLDER), "CHAOS_CLOCK": str(clock_file(tmp_path, "web"))}
    done = subprocess.run([sys.executable, "-c", READ], env=env, check=True, capture_output=True, text=True, timeout=60)
    seconds, nanoseconds, instant, is_datetime, measured = done.stdout.split()
    expected = time.time() + offset_s
    assert all(abs(float(told) - expected) < 60 for told in (seconds, nanoseconds, instant))
    assert is_datetime == "True"
    assert 0 < float(measured) < 60


def test_every_process_but_the_broker_has_a_clock_of_its_own(tmp_path: Path) -> None:
    commands = {spec.name: spec.command for spec in parse_procfile(procfile(tmp_path).read_text())}
    assert commands.pop("broker") == "graycat broker"
    assert {"web", "llm", "quick", "sd", "control", "beat"} <= commands.keys()
    for name, command in commands.items():
        assert f"CHAOS_CLOCK={clock_file(tmp_path, name)}" in command
        assert clock_file(tmp_path, name).read_text() == "0\n"
