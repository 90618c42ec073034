"""Fixtures of the tasks' tests."""

from __future__ import annotations

import pytest

from graycat.tasks import sd
from graycat.tasks.sd_progress import ProgressReporter


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have renders looked at, and interrupted, many times a second."""
    monkeypatch.setattr(ProgressReporter, "EVERY_S", 0.02)
    monkeypatch.setattr(sd, "INTERRUPT_AGAIN_S", 0.02)
