"""The report: what a run has found, between two marks of a file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from chaos.audit import Violation
from chaos.faults import Fault
from chaos.ledger import Caller, Outcome
from chaos.recovery import Recovery
from chaos.report import (
    BEGIN,
    END,
    OTHERS_BEGIN,
    OTHERS_END,
    REPORT,
    percentile,
    render,
    spread,
    too_slow,
    write,
    write_row,
)
from chaos.runner import Result

pytestmark = pytest.mark.not_covered

KILL = Fault("kill x", "processes", "`kill -9` of x", lambda _: None, permits=frozenset({"broken stream"}))
OTHER = Fault("other", "disk", "a disk", lambda _: None)


def result(fault: Fault = KILL, *kinds: str, **recovery: float) -> Result:
    """Return a result with violations of these kinds."""
    outcomes = Counter({(Caller.GAME, Outcome.WHOLE): 5, (Caller.GAME, Outcome.BROKEN): 1})
    violations = [Violation(kind, "something") for kind in kinds]
    return Result(fault, violations, Recovery(**recovery), outcomes, Counter(succeeded=6), 12.0)


@pytest.mark.parametrize(
    ("values", "part", "expected"), [([3.0], 0.5, 3.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0), ([1.0, 2.0, 3.0], 0.95, 3.0)]
)
def test_percentiles_are_values_that_were_measured(values: list[float], part: float, expected: float) -> None:
    assert percentile(values, part) == expected


def test_nothing_measured_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
    assert spread([None, None]) == "–"
    assert spread([None, 1.0, 3.0]) == "1.0 · 3.0 · 3.0"


def test_a_fault_may_permit_a_kind_or_what_it_is_about() -> None:
    permits = frozenset({"left paused queues", "broken stream"})
    fault = Fault("x", "poison", "x", lambda _: None, permits=permits)
    found = [Violation("left", "paused queues"), Violation("left", "queue llm"), Violation("broken stream", "c1-1")]
    assert Result(fault, found).unforeseen == [found[1]]


def test_what_a_fault_permits_breaks_no_promise() -> None:
    text = render([result(KILL, "broken stream", restart_s=2.0)], 1, "abc")
    assert "broken 1" not in text.replace("1 broken off", "")
    assert "| processes | kill x | `kill -9` of x | 1 runs, 0 broken | 2.0 · 2.0 · 2.0 | – | – | – |" in text


@pytest.mark.parametrize(
    "kind",
    [
        *("lost", "not ended", "twice", "ends", "hung stream", "hung caller", "wrong answer stream", "late", "batch"),
        *("left", "grown", "down", "metrics", "broken request", "refused image", "error stream", "refused command"),
        *("task failed", "wrong images", "slow", "harness"),
    ],
)
def test_each_broken_promise_is_told(kind: str) -> None:
    text = render([result(KILL, kind), result(OTHER)], 1, "abc")
    assert text.count("**broken 1 times**") == 1
    assert "1 runs, 1 broken" in text


def test_a_promise_says_how_many_faults_it_is_not_kept_under() -> None:
    lossy = Fault("restore", "broker", "older files", lambda _: None, permits=frozenset({"lost", "left a queue"}))
    text = render([result(lossy, "lost"), result(OTHER)], 1, "abc")
    assert "| What was accepted is never lost | 1 of 2; the others permit it |" in text
    assert "| Nothing is left behind | 1 of 2; the others permit it |" in text
    assert "| Nobody waits for ever | all 2 |" in text
    assert "**broken" not in text


def test_the_promises_about_times_are_about_the_p95_of_all() -> None:
    slow, quick = result(gap_s=11.0), result(gap_s=2.0)
    assert too_slow([quick]) == []
    assert too_slow([]) == []
    (told,) = too_slow([slow, quick])
    assert told == "A stream has no longer gap: p95 is 11.0 s, and 10 s are promised"
    assert too_slow([slow, *[quick] * 19]) == []


def test_a_skipped_fault_is_no_pass() -> None:
    skipped = Result(OTHER, skipped="no such program")
    text = render([result(), skipped], 1, "abc")
    assert "| disk | other | a disk | not done: no such program |" in text
    assert "1 faults, 1 runs" in text


def test_the_tables_go_between_the_marks(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    path.write_text(f"head\n{BEGIN}\nold\n{END}\ntail\n")
    write([result()], 1, "abc", path)
    text = path.read_text()
    assert text.startswith(f"head\n{BEGIN}\n")
    assert text.endswith(f"{END}\ntail\n")
    assert "old" not in text
    assert "kill x" in text
    path.write_text("no marks")
    with pytest.raises(ValueError, match="no marks"):
        write([result()], 1, "abc", path)


def test_a_run_of_another_kind_replaces_the_row_of_its_last_one(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    path.write_text(f"head\n{OTHERS_BEGIN}\nnothing\n{OTHERS_END}\ntail\n")
    for kind, found in (("soak", "grows"), ("day", "right"), ("soak", "flat")):
        write_row(kind, "much", found, "abc", path)
    rows = path.read_text().splitlines()[5:7]
    assert [row.split(" | ")[0] for row in rows] == ["| `soak`", "| `day`"]
    assert rows[0].endswith("commit abc | much | flat |")
    assert path.read_text().startswith(f"head\n{OTHERS_BEGIN}\n")
    assert path.read_text().endswith(f"{OTHERS_END}\ntail\n")
    path.write_text("no marks")
    with pytest.raises(ValueError, match="no marks"):
        write_row("soak", "much", "flat", "", path)


def test_the_document_has_the_marks() -> None:
    text = REPORT.read_text()
    assert [text.count(mark) for mark in (BEGIN, END, OTHERS_BEGIN, OTHERS_END)] == [1, 1, 1, 1]
