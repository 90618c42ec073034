"""What is installed from a wheel: all that graycat needs at run time is inside."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from email.message import Message
from email.parser import Parser
from importlib.metadata import packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest

from graycat import __version__
from graycat.settings import extras
from graycat.web.docs.library import Library

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "graycat"
#: What docker/Dockerfile copies before it installs graycat; more must not be needed to build it.
BUILT_FROM = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "celeryconfig.py")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a source distribution, unpacked. It is made from a copy: a build writes into its folder."""
    copy, target = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("source")
    for name in BUILT_FROM:
        shutil.copy(ROOT / name, copy)
    shutil.copytree(PACKAGE, copy / "graycat", ignore=shutil.ignore_patterns("__pycache__"))
    code = f"import setuptools.build_meta as backend; backend.build_sdist({str(target)!r})"
    built = subprocess.run([sys.executable, "-c", code], cwd=copy, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (path,) = target.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        archive.extractall(target, filter="data")
    return target / path.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel that is built from the source distribution, as it is for who has no wheel."""
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


def test_a_wheel_has_every_guide(wheel: Path) -> None:
    guides = {f"graycat/web/docs/repository/{path}" for path in Library.read().by_path}
    assert len(guides) > 50
    with ZipFile(wheel) as archive:
        assert guides <= set(archive.namelist())


def test_a_wheel_has_the_module_of_celery_s_settings_and_no_tests(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        top_level = {name.partition("/")[0] for name in archive.namelist()}
    assert top_level == {"celeryconfig.py", "graycat", f"graycat-{__version__}.dist-info"}


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """Return what a wheel says of itself."""
    with ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(f"graycat-{__version__}.dist-info/METADATA").decode())


def test_the_version_of_a_wheel_is_that_of_the_package(metadata: Message) -> None:
    assert metadata["Version"] == __version__


def test_a_wheel_says_what_it_is(metadata: Message) -> None:
    assert metadata["License"] == "MIT"
    assert metadata["Description-Content-Type"] == "text/markdown"
    # The headers' parser keeps what follows them as the body: the README.
    assert metadata.get_payload() == (ROOT / "README.md").read_text()
    assert {"embedded", "s3", "tracing"} <= set(metadata.get_all("Provides-Extra", []))


def test_the_pythons_of_a_wheel_begin_with_the_oldest_that_it_requires(metadata: Message) -> None:
    name = "Programming Language :: Python :: 3."
    found = [text.removeprefix(name) for text in metadata.get_all("Classifier", []) if text.startswith(name)]
    minors = [int(minor) for minor in found]
    assert metadata["Requires-Python"] == f">=3.{minors[0]}"
    assert minors == list(range(minors[0], minors[-1] + 1))


@pytest.mark.parametrize("extra", ["embedded", "tracing"])
def test_what_a_missing_extra_is_looked_for_by_is_what_the_extra_installs(metadata: Message, extra: str) -> None:
    looked_for = {"embedded": (*extras.BROKER, extras.ENGINE, extras.MODEL), "tracing": extras.TRACING}[extra]
    required = [text for text in metadata.get_all("Requires-Dist", []) if f'extra == "{extra}"' in text]
    by_name = {re.split(r"[^\w.-]", text)[0]: text for text in required}
    installed_by = packages_distributions()
    for module in looked_for:
        found = {name for name in by_name if distribution_has(name, module, installed_by)}
        assert found, f"no package of {extra} has {module}: {sorted(by_name)}"


def distribution_has(name: str, module: str, installed_by: Mapping[str, list[str]]) -> bool:
    """Return whether a distribution is one of those that a top-level module comes from."""
    owners = installed_by.get(module.partition(".")[0], [])
    return name.replace("-", "_") in {owner.replace("-", "_") for owner in owners}


def test_a_source_distribution_is_all_that_a_wheel_needs_and_no_tests(source: Path) -> None:
    names = {path.name for path in source.iterdir()}
    assert {"README.md", "LICENSE", "celeryconfig.py", "graycat", "pyproject.toml", "setup.cfg"} <= names
    assert not names & {"tests", "bench", "chaos", "monitoring", "docker", "findings"}
