"""How densely graycat is written: conditional expressions and comprehensions, counted in the syntax tree.

By hand, for each package of graycat/ or for the paths that are named:

    python -m tests.support.syntax_counts [PATH ...]
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "graycat"

#: The most of each kind in 1,000 lines.
MAX_CONDITIONALS, MAX_COMPREHENSIONS = 8.0, 12.0

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass
class Counts:
    """What was counted in some files."""

    lines: int = 0
    #: Expressions of the form ``a if b else c``.
    conditionals: int = 0
    #: Comprehensions of lists, sets and dicts, and generator expressions.
    comprehensions: int = 0

    def add_file(self, path: Path) -> None:
        """Count a Python file."""
        text = path.read_text(encoding="utf-8")
        self.lines += len(text.splitlines())
        for node in ast.walk(ast.parse(text, str(path))):
            if isinstance(node, ast.IfExp):
                self.conditionals += 1
            elif isinstance(node, COMPREHENSIONS):
                self.comprehensions += 1

    def per_1000_lines(self, count: int) -> float:
        """Return how many of ``count`` there are in 1,000 lines."""
        return 1000 * count / max(self.lines, 1)

    def __str__(self) -> str:
        conditionals = f"{self.conditionals:4} conditional expressions ({self.per_1000_lines(self.conditionals):4.1f})"
        comprehensions = f"{self.comprehensions:4} comprehensions ({self.per_1000_lines(self.comprehensions):4.1f})"
        return f"{self.lines:6} lines, {conditionals}, {comprehensions}"


def count_files(paths: Iterable[Path]) -> Counts:
    """Count some Python files together."""
    counts = Counts()
    for path in paths:
        counts.add_file(path)
    return counts


def python_files(path: Path) -> list[Path]:
    """Return the Python files of a folder and of the folders in it, or the file itself."""
    if path.is_file():
        return [path]
    return sorted(path.rglob("*.py"))


def main(arguments: list[str]) -> None:
    """Print the counts of the named paths, or of each package and of all."""
    paths = [Path(argument) for argument in arguments]
    if not paths:
        paths = [path for path in sorted(PACKAGE.iterdir()) if path.is_dir() and python_files(path)]
        paths.append(PACKAGE)
    for path in paths:
        print(f"{count_files(python_files(path))}  {os.path.relpath(path)}")  # noqa: T201 (a command prints)


if __name__ == "__main__":
    main(sys.argv[1:])
