"""Results are kept as they come: a run goes on where it was stopped, and only on the commit on which it began."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from chaos.audit import Violation
from chaos.faults import Fault
from chaos.ledger import Caller, Outcome
from chaos.recovery import Recovery
from chaos.results import OtherCommit, Results, read_commit
from chaos.runner import Result

pytestmark = pytest.mark.not_covered

FAULTS = {name: Fault(name, "processes", name, lambda _: None) for name in ("first", "second")}
COMMIT = ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-q", "--allow-empty", "-m", "x"]


def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    path = tmp_path / "results"
    outcomes = Counter({(Caller.GAME, Outcome.WHOLE): 3})
    found = [Violation("lost", "c1-text-1", "gone")]
    result = Result(FAULTS["first"], found, Recovery(1.0, None, 2.0, 0.5), outcomes, Counter(failed=1), 9.0, 1.0, 2.0)
    result.notes = ["a note"]
    kept = Results(path, "abc").load(FAULTS)
    kept.add(1, result)
    kept.add(2, Result(FAULTS["second"], skipped="no disk"))
    again = Results(path, "abc").load(FAULTS)
    assert again.all() == kept.all() == [result, Result(FAULTS["second"], skipped="no disk")]
    assert [again.names(run) for run in (1, 2, 3)] == [{"first"}, {"second"}, set()]


def test_results_of_two_commits_are_never_put_together(tmp_path: Path) -> None:
    path = tmp_path / "results"
    Results(path, "abc").load(FAULTS)
    with pytest.raises(OtherCommit, match="results of abc, and this is def"):
        Results(path, "def").load(FAULTS)
    for commit in ("", "abc+"):
        with pytest.raises(OtherCommit, match="commit what has changed"):
            Results(path, commit).load(FAULTS)
    assert Results(None, "").load(FAULTS).all() == []


def test_a_commit_is_that_of_code_without_changes(tmp_path: Path) -> None:
    assert read_commit(tmp_path) == ""
    for words in (["init", "-q"], COMMIT):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    commit = read_commit(tmp_path)
    assert len(commit) == 10
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "reliability.md").touch()
    subprocess.run(["git", "-C", str(tmp_path), "add", "."], check=True)
    assert read_commit(tmp_path) == commit
    (tmp_path / "code.py").touch()
    assert read_commit(tmp_path) == f"{commit}+"
