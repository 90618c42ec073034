"""What is installed from a wheel: all that graycat needs at run time is inside."""

from __future__ import annotations

import shutil
import subprocess
import sys
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

from graycat import __version__

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "graycat"
#: What docker/Dockerfile copies before it installs graycat; more must not be needed to build it.
BUILT_FROM = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "celeryconfig.py")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel that is built from a copy, because a build writes into the folder that it builds from."""
    source = tmp_path_factory.mktemp("source")
    for name in BUILT_FROM:
        shutil.copy(ROOT / name, source)
    shutil.copytree(PACKAGE, source / "graycat", ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("wheel")
    # Without isolation pip downloads nothing: the build tools are in the "dev" extra.
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(target), str(source)]
    built = subprocess.run(command, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (path,) = target.glob("*.whl")
    return path


def test_a_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    expected = {path.relative_to(ROOT).as_posix() for path in files}
    assert any(name.endswith(".lua") for name in expected)
    with ZipFile(wheel) as archive:
        missing = expected.difference(archive.namelist())
    assert not missing, f"not in the wheel: {sorted(missing)}; name them in setup.cfg under options.package_data"


def test_a_wheel_has_the_module_of_celery_s_settings_and_no_tests(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        top_level = {name.partition("/")[0] for name in archive.namelist()}
    assert top_level == {"celeryconfig.py", "graycat", f"graycat-{__version__}.dist-info"}


def test_the_version_of_a_wheel_is_that_of_the_package(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        metadata = Parser().parsestr(archive.read(f"graycat-{__version__}.dist-info/METADATA").decode())
    assert metadata["Version"] == __version__
