"""``python -m chaos --windows``: every window of every kind of work, on a few stacks at a time; prints a table."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import quantiles

from chaos import report
from chaos.console import say
from chaos.results import read_commit
from chaos.window_checks import Checks
from chaos.window_stack import PROCESSES, window_stack
from chaos.windows import FREEZES, KINDS, LONG, SHORT, Runner, Trial, Window, count_by_process

#: So many stacks run at a time: they wait most of the time.
STACKS = 2


def tell(trial: Trial) -> None:
    """Print what went wrong at a window, at once."""
    if not trial.sprung:
        say(f"not reached: {trial.window}")
    elif trial.problems:
        say(f"WRONG {trial.window}")
    for problem in trial.problems[:10]:
        say(f"    {problem}")


def record() -> list[Window]:
    """Return all windows: what each kind of work does in each process."""
    with (
        tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder,
        window_stack(Path(folder) / "home") as (stack, receiver),
    ):
        checks = Checks(stack, receiver)
        try:
            return Runner(stack, checks).record([*(work.kind for work in KINDS), LONG])
        finally:
            checks.close()


def try_windows(windows: Sequence[Window], *, freezes: Sequence[Window] = ()) -> list[Trial]:
    """Try windows on a stack of their own; return what came of them.

    One that was not reached is tried once more: how many chunks come together, and the like, is chance.
    """
    seconds = sorted({window.process for window in freezes})
    with (
        tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder,
        window_stack(Path(folder) / "home", seconds=seconds) as (stack, receiver),
    ):
        checks = Checks(stack, receiver)
        runner = Runner(stack, checks)
        trials = runner.run(windows, tell)
        missed = [trial.window for trial in trials if not trial.sprung and not trial.problems]
        trials = [trial for trial in trials if trial.sprung or trial.problems] + runner.run(missed, tell)
        for window in freezes:
            for until_ended in (False, True):
                trials.append(runner.freeze(window, until_ended=until_ended))
                tell(trials[-1])
        again = checks.check_calls_again(runner.works)
        checks.close()
    if again and trials:
        trials[-1].problems += again
    return trials


def divide(windows: Sequence[Window], parts: int) -> list[list[Window]]:
    """Divide windows among stacks, those of each process evenly."""
    shares: list[list[Window]] = [[] for _ in range(parts)]
    for process in PROCESSES:
        for number, window in enumerate(window for window in windows if window.process == process):
            shares[number % parts].append(window)
    return [share for share in shares if share]


def describe(trials: Sequence[Trial]) -> str:
    """Return a table of how many windows each process has, and what came of them."""
    lines = ["| process | windows | reached | wrong | seconds p50 | p95 | most |", "|---|---|---|---|---|---|---|"]
    for process in PROCESSES:
        own = [trial for trial in trials if trial.window.process == process]
        if not own:
            continue
        times = sorted(trial.seconds for trial in own)
        p50, p95 = times[0], times[-1]
        if len(times) > 1:
            cuts = quantiles(times, n=20, method="inclusive")
            p50, p95 = cuts[9], cuts[18]
        reached, wrong = sum(trial.sprung for trial in own), sum(bool(trial.problems) for trial in own)
        lines.append(f"| {process} | {len(own)} | {reached} | {wrong} | {p50:.1f} | {p95:.1f} | {times[-1]:.1f} |")
    return "\n".join(lines)


def main(*, short: bool = False, only_list: bool = False, writes: bool = False) -> int:
    """Try all windows and print what came of them; return how many went wrong or were not reached.

    ``short``: only the most telling ones. ``only_list``: find and list them. ``writes``: docs/reliability.md is told.
    """
    began, commit = time.monotonic(), read_commit()
    windows, freezes, stacks = list(SHORT), list(FREEZES[:1]), 1
    if not short:
        windows, freezes, stacks = record(), list(FREEZES), STACKS
    say(f"{len(windows)} windows: {dict(count_by_process(windows))}, {len(freezes)} where a worker stands still")
    if only_list:
        say("\n".join(map(str, [*windows, *freezes])))
        return 0
    trials: list[Trial] = []
    with ThreadPoolExecutor(stacks) as pool:
        runs = [pool.submit(try_windows, share) for share in divide(windows, stacks)]
        runs.append(pool.submit(try_windows, [], freezes=freezes))
        for run in runs:
            trials += run.result()
    wrong = [trial for trial in trials if trial.problems or not trial.sprung]
    say(describe(trials))
    say(f"{len(trials)} in {time.monotonic() - began:.0f} s")
    if writes:
        seconds = time.monotonic() - began
        reached = sum(trial.sprung for trial in trials)
        found = f"{reached} reached, {len(wrong)} wrong or not reached"
        report.write_row("make chaos ARGS=--windows", f"{len(trials)} windows, {seconds:.0f} s", found, commit)
    return len(wrong)
