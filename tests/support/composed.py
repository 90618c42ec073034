"""Compose files as Docker Compose reads them, without an engine."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.programs import program


def config(folder: Path, env: Mapping[str, str], *files: str) -> subprocess.CompletedProcess[str]:
    """Run ``config``, with these variables and no others."""
    # The example rather than an .env of the operator's, which is none of the test's.
    options = ["--project-directory", folder, "--env-file", folder / ".env.example"]
    options += [word for file in files or ("compose.yml",) for word in ("--file", folder / file)]
    command = [program("docker-compose", "docker-compose"), *map(str, options), "config"]
    bare = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(command, env={**bare, **env}, capture_output=True, text=True, timeout=60, check=False)


def resolved(folder: Path, env: Mapping[str, str]) -> dict[str, Any]:
    """Return the configuration, variables filled in. Raises AssertionError where it is refused."""
    done = config(folder, env)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = yaml.safe_load(done.stdout)
    return found


def required(folder: Path) -> set[str]:
    """Return the variables without which a compose file is refused."""
    return set(re.findall(r"\$\{(\w+):\?", (folder / "compose.yml").read_text()))


def is_pinned(image: str) -> bool:
    """Return whether an image's tag names one version."""
    return bool(re.search(r":v?\d+\.\d+(\.\d+)?[\w.-]*$|:[\w-]+-b\d+$|@sha256:[0-9a-f]{64}$", image))
