"""The results of whole runs, written to a file as they come, so that a run that was stopped can go on.

All in a file are of one commit, and none is ever replaced: what has failed once stays so.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chaos.audit import Violation
from chaos.faults import Fault
from chaos.ledger import Caller, Outcome
from chaos.recovery import Recovery
from chaos.runner import Result
from tests.support.stack import ROOT

#: Files that a run writes itself: a change of them is none of the code.
WRITTEN = ("docs/reliability.md",)


class OtherCommit(Exception):
    """Raised if results are of another commit than the code is, or if the code is of none."""


def read_commit(root: Path = ROOT) -> str:
    """Return the commit of the code, short; with a plus if something has changed since; '' without git."""
    try:
        commit = _git(root, "rev-parse", "--short=10", "HEAD").strip()
        changes = _git(root, "status", "--porcelain").splitlines()
    except (OSError, subprocess.CalledProcessError):
        return ""
    changed = [line for line in changes if line[3:] not in WRITTEN]
    return f"{commit}+" if changed else commit


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def to_json(result: Result) -> dict[str, Any]:
    """Return a result as JSON has it."""
    return {
        "fault": result.fault.name,
        "violations": [asdict(violation) for violation in result.violations],
        "recovery": asdict(result.recovery),
        "outcomes": [[str(caller), str(outcome), count] for (caller, outcome), count in result.outcomes.items()],
        "states": dict(result.states),
        "times": [result.seconds, result.ended_s, result.base_s],
        "notes": result.notes,
        "skipped": result.skipped,
    }


def from_json(line: Mapping[str, Any], faults: Mapping[str, Fault]) -> Result:
    """Return a result. Raises KeyError if there is no such fault."""
    outcomes: Counter[tuple[Caller, Outcome]] = Counter()
    for caller, outcome, count in line["outcomes"]:
        outcomes[Caller(caller), Outcome(outcome)] = count
    seconds, ended_s, base_s = line["times"]
    violations = [Violation(**violation) for violation in line["violations"]]
    recovery, states = Recovery(**line["recovery"]), Counter(line["states"])
    result = Result(faults[line["fault"]], violations, recovery, outcomes, states, seconds, ended_s, base_s)
    result.notes, result.skipped = line["notes"], line["skipped"]
    return result


@dataclass
class Results:
    """The results so far, by the run that they are of. ``path``: where they are kept; None: nowhere."""

    path: Path | None = None
    commit: str = field(default_factory=read_commit)
    done: list[tuple[int, Result]] = field(default_factory=list)

    def load(self, faults: Mapping[str, Fault]) -> Results:
        """Take up what the file has. Raises OtherCommit."""
        if self.path is None:
            return self
        if not self.commit or self.commit.endswith("+"):
            raise OtherCommit("results are kept of a commit alone: commit what has changed")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            self._write({"commit": self.commit})
        head, *lines = map(json.loads, self.path.read_text(encoding="utf-8").splitlines())
        if head["commit"] != self.commit:
            raise OtherCommit(f"{self.path} has results of {head['commit']}, and this is {self.commit}")
        self.done = [(line["run"], from_json(line, faults)) for line in lines]
        return self

    def add(self, run: int, result: Result) -> None:
        """Keep a result."""
        self.done.append((run, result))
        self._write({"run": run, **to_json(result)})

    def _write(self, line: Mapping[str, Any]) -> None:
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def names(self, run: int) -> set[str]:
        """Return the faults that a run has done."""
        return {result.fault.name for number, result in self.done if number == run}

    def all(self) -> list[Result]:
        """Return all results."""
        return [result for _, result in self.done]
