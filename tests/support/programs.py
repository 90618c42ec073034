"""Programs of other packages that tests start: missing at home they skip, with a reason; in CI they must be there."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

IN_CI = os.environ.get("CI", "").lower() in ("true", "1")


def program(name: str, package: str) -> str:
    """Return the path of a program that the Debian package ``package`` brings; also one of this environment."""
    here = Path(sys.executable).with_name(name)
    if path := str(here) if here.exists() else shutil.which(name):
        return path
    reason = f"{name} is not installed: apt-get install {package}"
    if IN_CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
