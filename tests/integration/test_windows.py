"""Processes that die between two commands of a task: nothing is lost, twice or left behind. And the audit can fail."""

from __future__ import annotations

import pytest

from chaos.mutants import MUTANTS, try_mutant
from chaos.windows import SHORT
from chaos.windows_run import try_windows


def test_a_process_may_die_between_any_two_commands() -> None:
    trials = try_windows(SHORT)
    assert {str(trial.window): trial.problems for trial in trials if trial.problems} == {}
    assert [str(trial.window) for trial in trials if not trial.sprung] == []
    assert len(trials) == len(SHORT)


@pytest.mark.parametrize("name", ["ack before finish", "attempts not counted"])
def test_the_audit_finds_a_graycat_that_is_broken(name: str) -> None:
    (mutant,) = [mutant for mutant in MUTANTS if mutant.name == name]
    verdict = try_mutant(mutant)
    assert verdict.reached
    assert verdict.killed, verdict.found
