"""Writes what a whole run has found into docs/reliability.md, between two marks: promises, faults, times."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from chaos.ledger import Outcome
from chaos.recovery import MAX_GAP_S, MAX_QUEUED_S, MAX_RESTART_S, Recovery
from chaos.runner import Result

REPORT = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- from here on: written by make chaos -->", "<!-- up to here: written by make chaos -->"
OTHERS_BEGIN = "<!-- from here on: written by the other runs -->"
OTHERS_END = "<!-- up to here: written by the other runs -->"
#: Promises: what, which kinds of violations break it, and how it is measured.
PROMISES = (
    ("What was accepted is never lost", ("lost", "not ended"), "each accepted id has a record, which has ended"),
    ("Nothing is done twice", ("twice", "ends"), "calls in the engines' logs against attempts; one end an answer"),
    ("Nobody waits for ever", ("hung",), "each caller has an answer or an error"),
    ("A stream is whole, or says that it is not", ("wrong answer",), "an engine that counts: each number once"),
    ("Nothing begins or ends behind its deadline", ("late",), "times in the records against their deadlines"),
    ("A batch has each image once", ("batch",), "manifest, files, hashes and the engine's log"),
    ("Nothing is left behind", ("left", "grown", "down"), "queues, unacknowledged messages, live sets, turns; "
     "connections, threads, descriptors, memory of each process against those before"),
    ("What is counted is what happened", ("metrics",), "usage and gauges against the records"),
)  # fmt: skip
#: All other kinds of violations: most faults permit some of them.
OTHER_KINDS = ("broken", "refused", "error", "task", "wrong images", "slow", "harness")
TIMES: tuple[tuple[str, float, Callable[[Recovery], float | None]], ...] = (
    ("Everything that ended runs again", MAX_RESTART_S, lambda recovery: recovery.restart_s),
    ("Queued work is done again", MAX_QUEUED_S, lambda recovery: recovery.work_s),
    ("A stream has no longer gap", MAX_GAP_S, lambda recovery: recovery.gap_s),
)


def percentile(values: Iterable[float], part: float) -> float:
    """Return the smallest value that is not below this part (0 to 1) of all. Raises ValueError if there is none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[max(math.ceil(part * len(ordered)) - 1, 0)]


def spread(values: Sequence[float | None]) -> str:
    """Return p50, p95 and the maximum of those that were measured; a dash for none."""
    found = [value for value in values if value is not None]
    if not found:
        return "–"
    return f"{percentile(found, 0.5):.1f} · {percentile(found, 0.95):.1f} · {max(found):.1f}"


def promise_rows(results: Sequence[Result]) -> list[str]:
    """Return the rows of the promises."""
    done = [result for result in results if not result.skipped]
    rows = []
    for promise, kinds, how in PROMISES:
        rows.append(f"| {promise} | {describe_faults(done, kinds)} | {how} | {count_broken(done, kinds)} |")
    every, others = f"all {count_faults(done)}", count_broken(done, OTHER_KINDS)
    how = "what each caller got, and the state of each task"
    rows.append(f"| Nothing else goes wrong than a fault permits | {every} | {how} | {others} |")
    for promise, limit, read in TIMES:
        values = measured(results, read)
        rows.append(
            f"| {promise}: p95 under {limit:g} s | all {count_faults(done)} | p50 · p95 · max (s) | {spread(values)} |"
        )
    return rows


def count_broken(results: Iterable[Result], kinds: tuple[str, ...]) -> str:
    """Return how often violations of these kinds were found where no fault permits them, in words."""
    broken = 0
    for result in results:
        broken += sum(violation.kind.startswith(kinds) for violation in result.unforeseen)
    return f"**broken {broken} times**" if broken else "0 times broken"


def describe_faults(results: Sequence[Result], kinds: tuple[str, ...]) -> str:
    """Return how many faults permit no violation of these kinds, in words."""
    strict = [result for result in results if not any(kind.startswith(kinds) for kind in result.fault.permits)]
    if count_faults(strict) == count_faults(results):
        return f"all {count_faults(results)}"
    return f"{count_faults(strict)} of {count_faults(results)}; the others permit it"


def measured(results: Iterable[Result], read: Callable[[Recovery], float | None]) -> list[float | None]:
    """Return a time of all faults that were done, less those after which everything was started anew."""
    return [read(result.recovery) for result in results if not (result.skipped or result.fault.starts_anew)]


def too_slow(results: Sequence[Result]) -> list[str]:
    """Return the promises about times whose p95 was not kept, in words."""
    found = []
    for promise, limit, read in TIMES:
        values = [value for value in measured(results, read) if value is not None]
        if values and percentile(values, 0.95) > limit:
            found.append(f"{promise}: p95 is {percentile(values, 0.95):.1f} s, and {limit:g} s are promised")
    return found


def count_faults(results: Iterable[Result]) -> int:
    """Return how many different faults there are results of."""
    return len({result.fault.name for result in results})


def fault_rows(results: Sequence[Result]) -> list[str]:
    """Return a row for each fault, with all its runs."""
    rows = []
    for name in dict.fromkeys(result.fault.name for result in results):
        runs = [result for result in results if result.fault.name == name]
        fault, done = runs[0].fault, [run for run in runs if not run.skipped]
        if not done:
            rows.append(f"| {fault.group} | {name} | {fault.what} | not done: {runs[0].skipped} | | | | |")
            continue
        broken = sum(len(run.unforeseen) for run in done)
        times = [
            spread([run.recovery.restart_s for run in done]),
            spread([run.recovery.request_s for run in done]),
            spread([run.recovery.work_s for run in done]),
            spread([run.recovery.gap_s for run in done]),
        ]
        found = f"{len(done)} runs, {broken} broken"
        rows.append(f"| {fault.group} | {name} | {fault.what} | {found} | " + " | ".join(times) + " |")
    return rows


def summary(results: Sequence[Result], runs: int, commit: str) -> str:
    """Return what was run, in a sentence."""
    states: Counter[str] = Counter()
    outcomes: Counter[Outcome] = Counter()
    for result in results:
        states += result.states
        for (_, outcome), number in result.outcomes.items():
            outcomes[outcome] += number
    done = [result for result in results if not result.skipped]
    told = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    minutes = sum(result.seconds for result in results) / 60
    return (
        f"{when(commit)}: {count_faults(done)} faults, {runs} runs of each, "
        f"{minutes:.0f} minutes. {sum(states.values())} tasks: {told}. {sum(outcomes.values())} requests: "
        f"{outcomes[Outcome.WHOLE]} answered, {outcomes[Outcome.REFUSED]} refused (503 or no connection: nothing was "
        f"accepted), {outcomes[Outcome.BROKEN]} broken off with the process that carried them, "
        f"{outcomes[Outcome.ERROR]} ended by an error, {outcomes[Outcome.OPEN]} without an end."
    )


def when(commit: str) -> str:
    """Return the day, the machine and the commit of a run."""
    told = f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores"
    return f"{told}, commit {commit}" if commit else told


def render(results: Sequence[Result], runs: int, commit: str) -> str:
    """Return the tables."""
    lines = [
        summary(results, runs, commit),
        "",
        "| promise | faults | measured by | found |",
        "| --- | --- | --- | --- |",
    ]
    lines += [*promise_rows(results), "", "Seconds as p50 · p95 · max of all runs.", ""]
    head = ("", "fault", "what happens", "audits", "all is back", "first request", "first work", "gap in a stream")
    lines += ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|", *fault_rows(results)]
    return "\n".join(lines)


def write(results: Sequence[Result], runs: int, commit: str, path: Path = REPORT) -> None:
    """Put the tables between the marks of a file. Raises ValueError if it has none."""
    _replace(path, BEGIN, END, lambda _: render(results, runs, commit))


def write_row(kind: str, how_much: str, found: str, commit: str, path: Path = REPORT) -> None:
    """Put what a run of another kind has found into the table of those, in place of the last one of this kind.

    Raises ValueError if the file has no marks.
    """

    def merge(old: str) -> str:
        rows = {line.split("|")[1].strip(): line for line in old.splitlines() if line.startswith("| `")}
        rows[f"`{kind}`"] = f"| `{kind}` | {when(commit)} | {how_much} | {found} |"
        return "\n".join(["| run | when | how much | found |", "| --- | --- | --- | --- |", *rows.values()])

    _replace(path, OTHERS_BEGIN, OTHERS_END, merge)


def _replace(path: Path, begin: str, end: str, change: Callable[[str], str]) -> None:
    text = path.read_text()
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{path} has no marks: {begin} and {end}")
    before, _, rest = text.partition(begin)
    old, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n\n{change(old)}\n\n{end}{after}")
