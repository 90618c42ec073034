"""``python -m chaos --mutants``: graycat is broken in known ways, and the audit must find each.

Each mutant (``hook/mutations.py``) runs a few faults that should show it. One that nobody finds is a failure of the
audit, as much as a violation without a mutant is one of graycat.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from chaos import report
from chaos.console import say
from chaos.hook.mutations import MUTATIONS
from chaos.hook.traps import AFTER, STOPPED
from chaos.results import read_commit
from chaos.window_checks import Checks
from chaos.window_stack import window_stack
from chaos.windows import Runner, Trial, Window

#: So many stacks run at a time: they wait most of the time.
STACKS = 2
#: Seconds until what a mutant has lost counts as lost, and until what it has left behind counts as left.
PATIENCE_S, CLEAN_S = 20.0, 8.0

Fault = Callable[[Runner], Trial]


def calm(kind: str) -> Fault:
    """Return no fault at all: work of a kind must be done well."""
    return lambda runner: runner.run_calmly(kind)


def killed(process: str, kind: str, step: str, side: str, number: int = 1) -> Fault:
    """Return the death of a process at a step of work."""
    return lambda runner: runner.run([Window(process, kind, step, number, side)])[0]


def stopped(process: str, kind: str, step: str, number: int = 1, *, until_ended: bool = False) -> Fault:
    """Return a worker that stands still at a step while another takes its task over, and then goes on."""
    return lambda runner: runner.freeze(Window(process, kind, step, number, STOPPED), until_ended=until_ended)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A known way to break graycat, and the faults that show it.

    ``by``: a pattern of the problem that is its own; others may come of a busy machine. ``seconds``: kinds of which it
    takes two workers.
    """

    name: str
    faults: Sequence[Fault]
    by: str
    seconds: Sequence[str] = ()


SWEPT = "only the sweeper has found"
MUTANTS = (
    Mutant("no fence in publish", [stopped("llm", "long text", "queue.publish", 5)], "chunks in place of", ("llm",)),
    Mutant("no fence in finish", [stopped("llm", "text", "queue.finish", until_ended=True)], "2 ends", ("llm",)),
    Mutant("no lease renewal", [calm("long text")], SWEPT),
    Mutant("ack before finish", [killed("llm", "text", "queue.publish", AFTER)], SWEPT),
    Mutant("no sweeper", [killed("llm", "text", "BRPOP llm", AFTER)], "is queued"),
    Mutant("lost turn", [calm("crowd")], SWEPT),
    Mutant("no takeover", [killed("llm", "text", "queue.claim", AFTER)], "is running"),
    Mutant("budget not given back", [calm("text")], "still charged"),
    Mutant("result stored twice", [calm("quick")], "2 ends"),
    Mutant("cancel ignored", [calm("cancel")], "is running"),
    Mutant("attempts not counted", [killed("llm", "text", "engine POST /completion", AFTER)], "2 times in 1 attempts"),
    Mutant("webhook told twice", [calm("text")], "was told 2 times"),
    Mutant("gate too wide", [calm("crowd")], "ran at once"),
    Mutant("usage counted twice", [calm("text")], "usage: "),
    Mutant("no time limit", [calm("overrun")], "is running"),
    Mutant("overdue tasks run", [calm("overdue")], "and might wait"),
    Mutant("a name makes two tasks", [killed("web", "text", "queue.create", AFTER)], "2 ends|usage: "),
)


@dataclass(slots=True)
class Verdict:
    """What the audit says of a mutant: the problems that it has found, none if the mutant has survived."""

    name: str
    found: list[str] = field(default_factory=list)
    #: What one of them must be (a regular expression).
    by: str = ""
    #: Whether each fault has happened: without that, nothing is proved.
    reached: bool = True
    seconds: float = 0.0

    @property
    def killed(self) -> bool:
        """Return whether the audit has found the mutant."""
        return self.reached and bool(self.proof)

    @property
    def proof(self) -> str:
        """Return the problem that is the mutant's own; '' if there is none."""
        return next((problem for problem in self.found if re.search(self.by, problem)), "")


def try_mutant(mutant: Mutant, *, broken: bool = True) -> Verdict:
    """Run a mutant's faults, on the mutant or on graycat as it is; return what the audit has found."""
    began = time.monotonic()
    verdict = Verdict(mutant.name, by=mutant.by)
    name = mutant.name if broken else ""
    with (
        tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder,
        window_stack(Path(folder) / "home", name, mutant.seconds) as (stack, receiver),
    ):
        checks = Checks(stack, receiver)
        runner = Runner(stack, checks, patience_s=PATIENCE_S, clean_s=CLEAN_S)
        for fault in mutant.faults:
            trial = fault(runner)
            verdict.reached = verdict.reached and (trial.sprung or not trial.window.process)
            verdict.found += trial.problems
        verdict.found += checks.check_calls_again(runner.works)
        checks.close()
    verdict.seconds = time.monotonic() - began
    return verdict


def find_unused() -> list[str]:
    """Return the mutations that no mutant runs, and the mutants without a mutation."""
    return sorted(MUTATIONS.keys() ^ {mutant.name for mutant in MUTANTS})


def describe(verdicts: Iterable[Verdict]) -> str:
    """Return the table of mutants, in Markdown."""
    lines = ["| mutant | what is broken | found by |", "|---|---|---|"]
    for verdict in verdicts:
        found = "**SURVIVED**"
        if not verdict.reached:
            found = "**its fault did not happen**"
        elif verdict.killed:
            found = verdict.proof.replace("|", "\\|")[:120]
        lines.append(f"| {verdict.name} | {MUTATIONS[verdict.name].what} | {found} |")
    return "\n".join(lines)


def main(mutants: Sequence[Mutant] = MUTANTS, *, writes: bool = False) -> int:
    """Try all mutants and print what finds each; return the number of those that survive.

    ``writes``: docs/reliability.md is told.
    """
    commit = read_commit()
    with ThreadPoolExecutor(STACKS) as pool:
        verdicts = list(pool.map(try_mutant, mutants))
    say(describe(verdicts))
    survived = sum(not verdict.killed for verdict in verdicts)
    if writes:
        found = f"{len(verdicts) - survived} found, {survived} not"
        report.write_row("make chaos ARGS=--mutants", f"{len(verdicts)} mutants", found, commit)
    return survived
