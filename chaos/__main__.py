"""``make chaos``: ``python -m chaos [--list] [--faults NAME,...] [--group G] [--short] [--runs N]``."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from chaos import day, life, mutants, report, soak, windows_run
from chaos.audit import Violation
from chaos.console import say
from chaos.faults import Fault, all_faults
from chaos.results import OtherCommit, Results
from chaos.runner import Result, run_fault, warm_up
from chaos.system import Skip, System

#: What is no fault under load has a command of its own, with options of its own.
OTHERS = {"day": day.main, "life": life.main, "soak": soak.main}


def read_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--list", action="store_true", help="print the table of faults and end")
    parser.add_argument("--faults", default="", help="names of faults, parted by commas")
    parser.add_argument("--group", default="", help="only the faults of this group")
    parser.add_argument("--short", action="store_true", help="only the most telling faults")
    parser.add_argument("--runs", type=int, default=1, help="how often all are done")
    parser.add_argument("--write", action="store_true", help="write what was found into docs/reliability.md")
    parser.add_argument("--results", type=Path, help="keep results in this file; what it has already is not done again")
    parser.add_argument("--keep", action="store_true", help="keep the homes of the systems, with their logs")
    parser.add_argument("--windows", action="store_true", help="end a process at every step of a task, one at a time")
    parser.add_argument("--mutants", action="store_true", help="break graycat in known ways: the audit must find each")
    return parser.parse_args()


def choose(options: argparse.Namespace) -> list[Fault]:
    """Return the faults that were asked for. Raises SystemExit if one is not known."""
    faults = all_faults()
    names = [name.strip() for name in options.faults.split(",") if name.strip()]
    unknown = set(names) - {fault.name for fault in faults}
    if (options.write or options.results) and (names or options.group or options.short):
        raise SystemExit("--write and --results are for whole runs: without --faults, --group and --short")
    if unknown:
        raise SystemExit(f"there is no fault {', '.join(sorted(unknown))}: see --list")
    if names:
        faults = [fault for fault in faults if fault.name in names]
    if options.group:
        faults = [fault for fault in faults if fault.group == options.group]
    if options.short:
        faults = [fault for fault in faults if fault.short]
    return faults


@contextmanager
def running(fault: Fault, *, keep: bool) -> Iterator[System]:
    """Run a system with a fault's settings for the block."""
    # The socket of a broker whose home has a long name lies outside: its own disk would hide it.
    home = Path(tempfile.mkdtemp(prefix="chaos-" + "disks-" * 16 * ("CHAOS_DISKS" in fault.env)))
    try:
        system = System(home, fault.env)
    except Skip:
        shutil.rmtree(home, ignore_errors=True)
        raise
    try:
        yield system.start()
        system.stop()
    finally:
        system.kill_all()
        (home / "output.log").write_text(system.stack.output)
        if keep:
            say(f"kept {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)


def run_all(faults: list[Fault], *, keep: bool) -> Iterator[Result]:
    """Do the faults, those with the same settings on one system; yield how each went, at once."""
    ordered = sorted(faults, key=_system_of)
    for _, group in groupby(ordered, key=_system_of):
        for result in run_group(list(group), keep=keep):
            tell(result)
            yield result


def run_group(faults: list[Fault], *, keep: bool) -> Iterator[Result]:
    """Yield how each fault went. If a system cannot be started, audited or stopped, the others get a new one."""
    waiting = list(faults)
    while waiting:
        try:
            with running(waiting[0], keep=keep) as system:
                base = warm_up(system)
                while waiting:
                    yield run_fault(system, waiting[0], base)
                    waiting.pop(0)
        except Skip as reason:
            for fault in waiting:
                yield Result(fault, skipped=str(reason))
            return
        except Exception as error:  # noqa: BLE001 (whatever it is, it is a finding, and the other faults are to be done)
            fault = (waiting or faults[-1:]).pop(0)
            yield Result(fault, [Violation("harness", "its system", f"{type(error).__name__}: {error}"[-500:])])


def _system_of(fault: Fault) -> tuple[list[tuple[str, str]], str]:
    """Return what the faults of one system have in common."""
    return sorted(fault.env.items()), fault.name if fault.alone else ""


def tell(result: Result) -> None:
    """Print how a fault went."""
    times = result.recovery
    shown = [("back", times.restart_s), ("request", times.request_s), ("work", times.work_s), ("gap", times.gap_s)]
    told = ", ".join(f"{name} {seconds:.1f}" for name, seconds in shown if seconds is not None)
    verdict = "skipped" if result.skipped else "FAILED" if result.unforeseen else "ok"
    say(
        f"{verdict:7} {result.fault.name:32} {result.seconds:5.1f} s  {sum(result.states.values())} tasks; {told}, "
        f"ended {result.ended_s:.1f}, base {result.base_s:.1f}"
    )
    for note in [result.skipped, *result.notes]:
        if note:
            say(f"        {note}")
    for violation in result.unforeseen[:20]:
        say(f"        {violation}")


def run_apart(options: argparse.Namespace) -> int:
    """Run the windows or the mutants, which have stacks of their own; return the exit status."""
    if options.mutants:
        return min(mutants.main(writes=options.write), 1)
    if options.write and (options.short or options.list):
        raise SystemExit("--write is for all windows: without --short and --list")
    return min(windows_run.main(short=options.short, only_list=options.list, writes=options.write), 1)


def main() -> None:
    """Do what the command line asks."""
    if sys.argv[1:2] and sys.argv[1] in OTHERS:
        raise SystemExit(OTHERS[sys.argv[1]](sys.argv[2:]))
    options = read_options()
    if options.mutants or options.windows:
        raise SystemExit(run_apart(options))
    faults = choose(options)
    if options.list:
        width = max((len(fault.name) for fault in faults), default=0)
        for fault in faults:
            say(f"{fault.group:10} {fault.name:{width}} {fault.what}")
        return
    raise SystemExit(run_and_judge(faults, options))


def run_and_judge(faults: list[Fault], options: argparse.Namespace) -> int:
    """Do the faults as often as asked; return the exit status."""
    try:
        kept = Results(options.results).load({fault.name: fault for fault in faults})
    except OtherCommit as error:
        raise SystemExit(str(error)) from None
    for run in range(1, options.runs + 1):
        done = kept.names(run)
        for result in run_all([fault for fault in faults if fault.name not in done], keep=options.keep):
            kept.add(run, result)
    results = kept.all()
    if options.write:
        report.write(results, options.runs, kept.commit)
    slow = report.too_slow(results)
    for promise in slow:
        say(promise)
    return int(bool(slow) or any(result.unforeseen for result in results))


if __name__ == "__main__":
    main()
