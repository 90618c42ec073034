"""Constraints for pip that install the oldest release of each dependency that setup.cfg allows.

    python -m tests.support.lowest_versions > constraints
    python -m tests.support.lowest_versions --required > requirements

The second prints what is installed. Neither installs graycat itself.

What a dependency needs itself has the version of constraints.txt, so that only setup.cfg decides what is tested.
"""

from __future__ import annotations

import configparser
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: Extras of which the bounds are tested: those that hold code of graycat's.
EXTRAS = ("tracing",)
#: Releases of OpenTelemetry require each other and a protobuf in versions of their own.
FOLLOWERS = ("opentelemetry-", "protobuf", "googleapis-common-protos")

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[[^]]*\])?>=(?P<version>[\w.]+)")


def canonical(name: str) -> str:
    """Return a package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements() -> list[str]:
    """Return what setup.cfg requires, a line each."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    lines = config["options"]["install_requires"].split("\n")
    for extra in EXTRAS:
        lines += config["options.extras_require"][extra].split("\n")
    return [line.strip() for line in lines if line.strip()]


def lower_bounds() -> dict[str, str]:
    """Return the lower bound of each dependency in setup.cfg; without a bound any release will do, so the newest is."""
    bounds = {}
    for line in requirements():
        requirement = _REQUIREMENT.fullmatch(line)
        if requirement is not None:
            bounds[canonical(requirement["name"])] = requirement["version"]
    return bounds


def locked_versions() -> dict[str, str]:
    """Return the version of each package in constraints.txt."""
    versions = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, found, version = line.partition("==")
        if found and not line.startswith("#"):
            versions[canonical(name)] = version
    return versions


def constraints() -> list[str]:
    """Return the lines of the constraints file."""
    versions = locked_versions()
    for name in list(versions):
        if name.startswith(FOLLOWERS):
            del versions[name]
    versions.update(lower_bounds())
    return [f"{name}=={version}" for name, version in sorted(versions.items())]


if __name__ == "__main__":
    wanted = requirements() if sys.argv[1:] == ["--required"] else constraints()
    print("\n".join(wanted))  # noqa: T201 (a command prints)
