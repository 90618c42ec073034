"""``python -m chaos.windows_run``: every window of every kind of work, on a few stacks at a time; prints a table.

Ends with the number of windows that went wrong. ``--only TEXT``: those whose description has the text.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import quantiles

from chaos.subjects import SUBJECTS
from chaos.window_checks import Checks
from chaos.window_stack import PROCESSES, window_stack
from chaos.windows import FREEZES, SHORT, Runner, Trial, Window, count_by_process

#: So many stacks run at a time: they wait most of the time.
STACKS = 2


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def record() -> list[Window]:
    """Return all windows: what each kind of work does in each process."""
    with (
        tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder,
        window_stack(Path(folder) / "home") as (stack, receiver),
    ):
        checks = Checks(stack, receiver)
        try:
            return Runner(stack, checks).record([subject.kind for subject in SUBJECTS])
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
        trials = runner.run(windows)
        missed = [trial.window for trial in trials if not trial.sprung and not trial.problems]
        trials = [trial for trial in trials if trial.sprung or trial.problems] + runner.run(missed)
        for window in freezes:
            trials += [runner.freeze(window, until_ended=ended) for ended in (False, True)]
        again = checks.check_calls_again(runner.subjects)
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


def read_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="chaos.windows_run", description=__doc__)
    parser.add_argument("--list", action="store_true", help="only find the windows and list them")
    parser.add_argument("--short", action="store_true", help="only the most telling windows, as CI does")
    parser.add_argument("--only", default="", help="only windows whose description has this text")
    parser.add_argument("--stacks", type=int, default=STACKS, help="so many at a time")
    return parser.parse_args()


def main() -> int:
    """Do what the command line asks; return the number of windows that went wrong or were not reached."""
    options = read_options()
    began = time.monotonic()
    windows, freezes = list(SHORT), list(FREEZES[:1])
    if not options.short:
        windows, freezes = record(), list(FREEZES)
    windows = [window for window in windows if options.only in str(window)]
    freezes = [window for window in freezes if options.only in str(window)]
    say(f"{len(windows)} windows: {dict(count_by_process(windows))}, {len(freezes)} freezes")
    if options.list:
        say("\n".join(map(str, [*windows, *freezes])))
        return 0
    trials: list[Trial] = []
    stacks = options.stacks
    if options.short:
        stacks = 1
    with ThreadPoolExecutor(stacks) as pool:
        runs = [pool.submit(try_windows, share) for share in divide(windows, stacks)]
        if freezes:
            runs.append(pool.submit(try_windows, [], freezes=freezes))
        for run in runs:
            trials += run.result()
    wrong = [trial for trial in trials if trial.problems or not trial.sprung]
    for trial in wrong:
        say(f"{'WRONG' if trial.sprung else 'NOT REACHED'} {trial.window}")
        for problem in trial.problems[:10]:
            say(f"    {problem}")
    say(describe(trials))
    say(f"{len(trials)} in {time.monotonic() - began:.0f} s")
    return len(wrong)


if __name__ == "__main__":
    raise SystemExit(min(main(), 1))
