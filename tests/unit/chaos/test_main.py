"""Faults with the same settings share a system; one that breaks its system does not take the others with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chaos import __main__ as main
from chaos.faults import Fault, all_faults
from chaos.runner import Result
from chaos.system import Skip

pytestmark = pytest.mark.not_covered

FAULTS = [Fault(name, "processes", name, lambda _: None) for name in ("first", "second", "third")]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the faults for which a system was started; none is started really."""
    seen: list[str] = []

    @contextmanager
    def running(fault: Fault, *, keep: bool) -> Iterator[None]:
        assert not keep
        seen.append(fault.name)
        yield

    monkeypatch.setattr(main, "running", running)
    monkeypatch.setattr(main, "warm_up", lambda _: None)
    monkeypatch.setattr(main, "run_fault", lambda _, fault, __: Result(fault))
    return seen


def told(results: Iterator[Result]) -> list[tuple[str, list[str], str]]:
    """Return the faults of results, the kinds of their violations, and why they were skipped."""
    return [(found.fault.name, [one.kind for one in found.violations], found.skipped) for found in results]


def test_faults_share_a_system(started: list[str]) -> None:
    assert told(main.run_group(FAULTS, keep=False)) == [(fault.name, [], "") for fault in FAULTS]
    assert started == ["first"]


def test_after_a_fault_that_cannot_be_audited_the_others_get_a_new_system(
    started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_fault(_: object, fault: Fault, __: object) -> Result:
        if fault.name == "second":
            raise ConnectionError("nobody answers")
        return Result(fault)

    monkeypatch.setattr(main, "run_fault", run_fault)
    results = told(main.run_group(FAULTS, keep=False))
    assert results == [("first", [], ""), ("second", ["harness"], ""), ("third", [], "")]
    assert started == ["first", "third"]


def test_a_system_that_does_not_end_in_order_is_a_finding(monkeypatch: pytest.MonkeyPatch, started: list[str]) -> None:
    @contextmanager
    def running(_: Fault, *, keep: bool) -> Iterator[None]:
        yield
        raise AssertionError(f"it does not end, keep: {keep}")

    monkeypatch.setattr(main, "running", running)
    assert told(main.run_group(FAULTS[:1], keep=False)) == [("first", [], ""), ("first", ["harness"], "")]
    assert started == []


def test_what_a_fault_needs_and_is_not_here_is_said(monkeypatch: pytest.MonkeyPatch, started: list[str]) -> None:
    @contextmanager
    def running(_: Fault, *, keep: bool) -> Iterator[None]:
        raise Skip(f"no tmpfs, keep: {keep}")
        yield

    monkeypatch.setattr(main, "running", running)
    results = told(main.run_group(FAULTS, keep=False))
    assert results == [(fault.name, [], "no tmpfs, keep: False") for fault in FAULTS]
    assert started == []


def test_a_long_name_does_not_move_its_column(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["chaos", "--list"])
    main.main()
    lines = capsys.readouterr().out.splitlines()
    faults = all_faults()
    assert len({line.rindex(fault.what) for line, fault in zip(lines, faults, strict=True)}) == 1
