"""C# of the examples, compiled and run by Mono: Unity's own scripts run on a Mono of the same family."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.programs import IN_CI, program
from tests.support.stack import ROOT

SOURCES = ROOT / "examples" / "unity"
FAKES = ROOT / "tests" / "fakes" / "unity"
#: Without any type of Unity's.
CORE = tuple(
    SOURCES / f"{name}.cs" for name in ("GraycatError", "EventReader", "GraycatClient", "GraycatImages", "PlayerTokens")
)
#: Where Debian has Newtonsoft's JSON, which is a package of Unity's, too.
JSON = Path("/usr/lib/cli/Newtonsoft.Json-5.0/Newtonsoft.Json.dll")
#: Seconds that a program may take: far more than any does, on a machine that is busy.
PATIENCE_S = 120


def compiled(folder: Path, *sources: Path) -> Path:
    """Return a program made of the core and ``sources``; a warning is an error. Skips where Mono is missing."""
    compiler = program("mcs", "mono-mcs")
    if not JSON.exists():
        packages = "libnewtonsoft-json5.0-cil libmono-system-net-http4.0-cil"
        reason = f"Newtonsoft.Json is not installed: apt-get install {packages}"
        if IN_CI:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    made = folder / "program.exe"
    words: list[str | Path] = [
        compiler,
        "-warnaserror",
        "-langversion:7",
        "-r:System.Net.Http",
        f"-r:{JSON}",
        f"-out:{made}",
        *CORE,
        *sources,
    ]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return made


def start(made: Path, *arguments: str, env: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a program whose input and outputs are pipes."""
    words = [program("mono", "mono-runtime"), str(made), *arguments]
    return subprocess.Popen(
        words, env={**os.environ, "MONO_PATH": str(JSON.parent), **env}, text=True, bufsize=1,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(made: Path, *arguments: str, say: str = "", **env: str) -> tuple[int, str, str]:
    """Run a program to its end; return its exit status and what it printed, errors apart."""
    with start(made, *arguments, env=env) as process:
        try:
            printed, errors = process.communicate(say, PATIENCE_S)
        finally:
            process.kill()
    return process.returncode, printed, errors
