"""Fixtures of the wire tests: one placeholder renderer that takes no time, one whose steps can be watched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.webui_wire import PLACEHOLDER, WebUI, running


@pytest.fixture(scope="session")
def webui() -> Iterator[WebUI]:
    with running(PLACEHOLDER, "--step-s", "0") as started:
        yield started


@pytest.fixture(scope="session")
def slow_webui() -> Iterator[WebUI]:
    with running(PLACEHOLDER, "--step-s", "0.02") as started:
        yield started
