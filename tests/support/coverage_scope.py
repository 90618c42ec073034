"""What coverage traces: lines of graycat that unit tests run, and neither pytest around them nor other tests.

A trace doubles the time of each line of Python, whatever its module: most of what runs is pytest's own, or a library's.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any

import pytest

#: What a unit test with this mark runs does not count as covered. pytest-cov has a mark for that too, and would begin a
#: second trace behind each test that has it, of which nobody here knows.
MARK = "not_covered"
PYTEST_COVS_MARK = "no_cover"


def is_traced(item: pytest.Item) -> bool:
    """Return whether the lines that a test runs count as covered."""
    assert item.get_closest_marker(PYTEST_COVS_MARK) is None, f"mark {item.nodeid} as {MARK}, not {PYTEST_COVS_MARK}"
    return item.nodeid.startswith("tests/unit/") and item.get_closest_marker(MARK) is None


class CoverageScope:
    """Takes away the trace function that pytest-cov has set, and sets it for as long as it is of use.

    If there is none, this does nothing. A thread is traced if it begins while its test is.
    """

    def __init__(self, *, runs_tests: bool) -> None:
        self._trace: Any = None
        self._trace_of_threads: Any = None
        self._runs_tests = runs_tests
        self._on = True
        self._main = threading.get_ident()
        self._exec_module = SourceFileLoader.exec_module

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self) -> None:
        """Trace nothing from now on but imports of graycat's modules and what the unit tests run.

        In a process of xdist, pytest-cov begins at the same time, so this hook is the last.
        """
        self._trace, self._trace_of_threads = sys.gettrace(), threading.gettrace()
        self._runs_tests = self._runs_tests and self._trace is not None
        self._set(on=False)
        if self._runs_tests:
            SourceFileLoader.exec_module = self._importing()  # type: ignore[method-assign]

    def pytest_unconfigure(self) -> None:
        """Leave imports as they were before."""
        SourceFileLoader.exec_module = self._exec_module  # type: ignore[method-assign]

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        """Trace what the fixtures of a unit test do first."""
        yield from self._around(item)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """Trace a unit test."""
        yield from self._around(item)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, None, None]:
        """Trace what the fixtures of a unit test do last."""
        yield from self._around(item)

    def _around(self, item: pytest.Item) -> Generator[None, None, None]:
        before = self._set(on=is_traced(item))
        try:
            return (yield)
        finally:
            self._set(on=before)

    def _importing(self) -> Any:
        """Return what runs a module's code. A library's is not traced, also if graycat imports it."""

        def exec_module(loader: SourceFileLoader, module: ModuleType) -> None:
            if threading.get_ident() != self._main:
                self._exec_module(loader, module)
                return
            before = self._set(on=module.__name__.partition(".")[0] == "graycat")
            try:
                self._exec_module(loader, module)
            finally:
                self._set(on=before)

        return exec_module

    def _set(self, *, on: bool) -> bool:
        """Trace from now on, or do not; return what was done before."""
        on = on and self._runs_tests
        before, self._on = self._on, on
        if on != before:
            sys.settrace(self._trace if on else None)
            threading.settrace(self._trace_of_threads if on else None)
        return before
