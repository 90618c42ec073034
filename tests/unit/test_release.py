"""The targets of a release: what examines the pinned dependencies. Their tools are in an environment of their own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from graycat import __version__

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".venv-release"
PINS = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)

#: No line of graycat runs here.
pytestmark = pytest.mark.not_covered


def commands_of(*arguments: str) -> str:
    """Return the commands that make would run."""
    make = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return make.stdout


def test_a_release_is_audited_and_has_an_sbom() -> None:
    commands = commands_of("release")
    parts = ["pip-audit --strict", "cyclonedx-py requirements", "-m build --outdir dist"]
    for part in [*parts, "twine check --strict dist/graycat-"]:
        assert part in commands
    assert commands.index("pip-audit") < commands.index("-m build")


@pytest.mark.parametrize("target", ["sbom", "audit"])
def test_each_part_can_be_run_alone_on_the_pinned_dependencies(target: str) -> None:
    commands = commands_of(target)
    assert "constraints.txt" in commands
    assert "-m build" not in commands


def test_the_tools_are_pinned_and_no_part_of_the_dev_extra() -> None:
    lines = [line for line in (ROOT / "release" / "tools.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==\S+", line) for line in lines)
    named = {line.partition("==")[0] for line in lines}
    assert {"build", "cyclonedx-bom", "pip_audit", "twine"} <= named
    assert not {"build", "cyclonedx-bom", "pip-audit", "pip_audit"} & {name for name, _ in PINS}


def test_the_sbom_has_every_pinned_dependency(tmp_path: Path) -> None:
    if not (TOOLS / ".ready").is_file():
        pytest.skip("needs the tools of a release: make sbom")
    for name in ("Makefile", "constraints.txt", "release", "graycat"):
        source = ROOT / name
        if source.is_file():
            shutil.copy(source, tmp_path)
        else:
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".venv-release").symlink_to(TOOLS)
    subprocess.run(["make", "-o", ".venv-release/.ready", "sbom"], cwd=tmp_path, check=True, timeout=100)
    document = json.loads((tmp_path / "dist" / "graycat.cdx.json").read_text())
    assert document["bomFormat"] == "CycloneDX"
    component = document["metadata"]["component"]
    assert (component["name"], component["version"]) == ("graycat", __version__)
    assert {(entry["name"], entry["version"]) for entry in document["components"]} == set(PINS)
