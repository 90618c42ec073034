"""The images' recipes: linted, pinned, without root and without secrets, and all that they copy is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.composed import is_pinned
from tests.support.programs import program
from tests.support.stack import ROOT

FOLDER = ROOT / "docker"
RECIPES = [FOLDER / "Dockerfile", FOLDER / "Dockerfile.gpu"]


def lines(recipe: Path, word: str) -> list[str]:
    """Return what follows an instruction, each time it is there."""
    text = re.sub(r"\\\n", " ", recipe.read_text())
    return [line.removeprefix(f"{word} ").strip() for line in text.splitlines() if line.startswith(f"{word} ")]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.name))
def test_the_linter_has_nothing_to_say(recipe: Path) -> None:
    command = [program("hadolint", "hadolint"), str(recipe)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.name))
def test_bases_are_pinned_and_nobody_is_root(recipe: Path) -> None:
    arguments = dict(line.partition("=")[::2] for line in lines(recipe, "ARG"))
    bases = [line.split()[0].replace("${LLAMA}", arguments.get("LLAMA", "")) for line in lines(recipe, "FROM")]
    stages = {line.split(" AS ")[1] for line in lines(recipe, "FROM") if " AS " in line}
    assert [base for base in bases if base not in stages and not is_pinned(base)] == []
    assert lines(recipe, "USER") == ["10001"]
    assert lines(recipe, "HEALTHCHECK")
    assert lines(recipe, "ENTRYPOINT") == ['["graycat"]']


def test_the_engine_of_a_gpu_box_is_the_build_that_the_tests_run_with() -> None:
    pinned = re.search(r"^xllamacpp==\d+\.\d+\.(\d+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert lines(FOLDER / "Dockerfile.gpu", "ARG") == [f"LLAMA=server-cuda-b{pinned[1]}"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.name))
def test_no_secret_comes_in_and_what_is_copied_is_let_in(recipe: Path) -> None:
    text = " ".join(lines(recipe, "ENV") + lines(recipe, "ARG")).upper()
    assert not re.search(r"PASSWORD|TOKEN|SECRET|_KEY", text)
    copied = {word for line in lines(recipe, "COPY") if "--from" not in line for word in line.split()[:-1]}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied - {"graycat/__init__.py"} == allowed
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.name))
def test_no_other_image_is_needed_to_read_a_recipe(recipe: Path) -> None:
    # A "# syntax=" line would have each build fetch its newest one.
    assert "syntax=" not in recipe.read_text()


def test_a_package_of_these_files_is_whole(tmp_path: Path) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    source = tmp_path / "source"
    source.mkdir()
    for name in allowed:
        (source / name).symlink_to(ROOT / name) if (ROOT / name).is_file() else _copied(ROOT / name, source / name)
    code = "import setuptools; setuptools.setup()"
    command = [sys.executable, "-c", code, "--quiet", "build", "--build-base", str(tmp_path / "base")]
    command += ["--build-lib", str(tmp_path / "library")]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    built = {path.relative_to(tmp_path / "library").as_posix() for path in (tmp_path / "library").rglob("*.*")}
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "graycat").rglob("*.*")}
    assert {name for name in ours if "__pycache__" not in name} <= built
    assert "celeryconfig.py" in built


def _copied(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            there = target / path.relative_to(source)
            there.parent.mkdir(parents=True, exist_ok=True)
            there.symlink_to(path)
