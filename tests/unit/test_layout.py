"""What graycat promises about its own files, read from their syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import LONG, SHARING
from tests.support.syntax_counts import MAX_COMPREHENSIONS, MAX_CONDITIONALS, count_files

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(ROOT.glob("graycat/**/*.py"))
FILES = [*SOURCES, ROOT / "celeryconfig.py"]
#: Packages have no code of their own, or are tested by what uses them; every error is in one table, test_errors.py.
TESTED_ELSEWHERE = {
    "graycat/queue/models.py": "tests/unit/queue/test_records.py",
    "graycat/storage/redis_artifacts.py": "tests/unit/storage/test_artifacts.py",
    "graycat/worker/protocols.py": "tests/unit/worker/test_bootsteps.py",
    "graycat/web/services.py": "tests/unit/web/test_app.py",
}
MODULES = [path for path in SOURCES if path.name not in ("__init__.py", "errors.py")]
TESTS = sorted(ROOT.glob("tests/**/*.py"))
#: Stand-ins for engines may take their time: they are what a test waits for.
FAKES = ROOT / "tests" / "fakes"

#: No line of graycat runs here.
pytestmark = pytest.mark.not_covered

#: Complexity is ruff's to limit (pyproject.toml). This is a ceiling for a file that has taken up a second subject.
MAX_FILE_LINES = 400
#: Modules beside the packages: a reader should see at once what each of them is.
MAX_ROOT_MODULES = 10
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lines_without_header(path: Path) -> int:
    """Count the lines below the comment that a file may open with."""
    lines = path.read_text(encoding="utf-8").splitlines()
    header = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    return len(lines) - header


def uses_of(path: Path, module: str, members: set[str]) -> Iterator[int]:
    """Yield the lines of a file that reach ``members`` of ``module``, however they were imported."""
    text = path.read_text(encoding="utf-8")
    if not any(member in text for member in members):
        return
    tree = ast.parse(text, name_of(path))
    imports = [alias for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    aliases = {alias.asname or alias.name for alias in imports if alias.name == module}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in aliases and node.attr in members:
                yield node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == module and members & {a.name for a in node.names}:
            yield node.lineno


def find_tests_of(module: Path) -> list[Path]:
    """Find the test files of a module: they lie where it does, below tests/unit."""
    elsewhere = TESTED_ELSEWHERE.get(name_of(module))
    if elsewhere is not None:
        return [ROOT / elsewhere]
    folder = ROOT / "tests" / "unit" / module.relative_to(ROOT / "graycat").parent
    return [*folder.glob(f"test_{module.stem}.py"), *folder.glob(f"test_{module.stem}_*.py")]


def test_a_file_is_at_most_400_lines() -> None:
    counts = {name_of(path): lines_without_header(path) for path in FILES}
    long = {name: count for name, count in counts.items() if count > MAX_FILE_LINES}
    assert not long, f"move one of the subjects of each of these to a file of its own: {long}"


def test_the_package_root_has_at_most_10_modules() -> None:
    modules = sorted(path.name for path in (ROOT / "graycat").glob("*.py") if path.name != "__init__.py")
    assert len(modules) <= MAX_ROOT_MODULES, f"give one of these a package: {modules}"


def test_expressions_are_not_dense() -> None:
    counts = count_files(SOURCES)
    print_them = "print the counts of each room with: python -m tests.support.syntax_counts"
    assert counts.per_1000_lines(counts.conditionals) <= MAX_CONDITIONALS, f"{counts}; {print_them}"
    assert counts.per_1000_lines(counts.comprehensions) <= MAX_COMPREHENSIONS, f"{counts}; {print_them}"


def test_only_settings_reads_the_environment() -> None:
    others = (path for path in FILES if path != ROOT / "graycat" / "settings" / "__init__.py")
    uses = [f"{name_of(path)}:{line}" for path in others for line in uses_of(path, "os", ENVIRONMENT)]
    assert not uses, f"these lines read the environment, and should take it from graycat.settings: {uses}"


def test_a_module_has_a_test_file() -> None:
    untested = [name_of(path) for path in MODULES if not find_tests_of(path)]
    assert not untested, f"these have no test file, tests/unit/.../test_NAME.py: {untested}"


def test_a_test_never_sleeps() -> None:
    files = (path for path in TESTS if FAKES not in path.parents)
    uses = [f"{name_of(path)}:{line}" for path in files for line in uses_of(path, "time", {"sleep"})]
    assert not uses, f"these lines sleep, and should wait for what the test wants to see, with a deadline: {uses}"


def test_the_files_that_tests_are_ordered_by_exist() -> None:
    named = set().union(LONG, *SHARING.values())
    assert named - {name_of(path) for path in TESTS} == set()
