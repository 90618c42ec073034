from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from graycat.supervision.specs import PROCESSES
from graycat.supervision.systemd import ROOT as INSTALLED
from graycat.supervision.systemd import units
from tests.support.helpers import ROOT

FOLDER = ROOT / "systemd"


def test_the_shipped_units_are_those_of_the_process_list() -> None:
    shipped = {path.name: path.read_text() for path in FOLDER.iterdir() if path.suffix != ".md"}
    assert shipped == units()


@pytest.mark.parametrize("spec", PROCESSES, ids=lambda spec: spec.name)
def test_a_unit_starts_its_process_and_knows_a_drained_worker(spec) -> None:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(units()[f"graycat-{spec.name}.service"])
    assert parser["Service"]["ExecStart"] == f"{INSTALLED}/.venv/bin/{spec.command}"
    assert parser["Service"]["Restart"] == ("on-failure" if spec.drainable else "always")


def test_systemd_takes_every_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    for name, text in units().items():
        # A program that is here stands in for the installed one.
        (tmp_path / name).write_text(text.replace(f"{INSTALLED}/.venv/bin/graycat", "/bin/true"))
    paths = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run(
        [analyze, "verify", "--man=no", *paths], capture_output=True, text=True, timeout=60, check=False
    )
    # An older systemd ignores the two settings of the back-off (they are of version 254) and says so.
    ignored = ("RestartSteps", "RestartMaxDelaySec", "EnvironmentFile")
    complaints = [
        line for line in done.stderr.splitlines() if "graycat" in line and not any(n in line for n in ignored)
    ]
    assert complaints == []
