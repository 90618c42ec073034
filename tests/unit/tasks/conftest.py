"""Fixtures of the tasks' tests."""

from __future__ import annotations

import pytest

from graycat.tasks import llm, sd
from graycat.tasks.sd_progress import ProgressReporter


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have renders looked at, and interrupted, many times a second, and engines whose streams end too early."""
    monkeypatch.setattr(ProgressReporter, "INTERVAL_S", 0.02)
    monkeypatch.setattr(llm, "END_LOOKS_S", (0.0, 0.02))
    monkeypatch.setattr(sd, "INTERRUPT_INTERVAL_S", 0.02)
