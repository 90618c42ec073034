"""Fixtures of the tasks' tests."""

from __future__ import annotations

import pytest

from graycat.tasks import sd
from graycat.tasks.sd_progress import ProgressReporter


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have renders looked at, and interrupted, many times a second."""
    monkeypatch.setattr(ProgressReporter, "INTERVAL_S", 0.02)
    monkeypatch.setattr(sd, "INTERRUPT_INTERVAL_S", 0.02)
