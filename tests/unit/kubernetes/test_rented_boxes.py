"""The script of docs/scaling.md for rented boxes, run as a reader would: with programs of these names."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.stack import ROOT

SCRIPT = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("hint", "done"),
    [
        ("echo 6", ["start 4"]),
        ("echo 2", []),
        ("echo 0", ["stop 2"]),
        # The server is away: nothing changes.
        ("exit 3", []),
    ],
)
def test_boxes_follow_the_hint(hint: str, done: list[str], tmp_path: Path) -> None:
    (script,) = SCRIPT.findall((ROOT / "docs" / "scaling.md").read_text())
    programs = {
        "graycat": f'[ "$*" = "scale-hint llm" ] || exit 9\n{hint}',
        "boxes": 'if [ "$1" = count ]; then echo 2; else echo "$*" >> done; fi',
        # The loop ends at the second time.
        "sleep": "[ ! -e slept ] && touch slept",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["/bin/sh", "-euc", script], cwd=tmp_path, env=env, check=False, timeout=20)
    found = tmp_path / "done"
    assert (found.read_text().splitlines() if found.exists() else []) == done
    assert (tmp_path / "slept").exists()
