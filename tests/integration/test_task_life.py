"""A task's life against its model: hypothesis' state machine on the real scripts, transport and web application.

``python -m chaos life`` looks for longer, with fresh randomness.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.life import search
from tests.support.helpers import Valkey

#: The same examples each time.
EXAMPLES, STEPS = 36, 40
#: What they must have tried, so that no rule is asleep; what is rarer comes in the longer search.
TRIED = (
    *("submit", "put", "put again", "put refused", "cancel queued", "cancel running", "retry", "retry refused"),
    *("claim: run", "claim: finished", "claim: yield", "publish: ok", "publish: stale", "renew", "end: succeeded"),
    *("kill", "stall", "lose", "revoke", "be late", "outlive", "sweep"),
)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.mark.timeout(400)
def test_whatever_happens_to_tasks_their_records_are_as_the_model_says(valkey: Valkey) -> None:
    done = search(valkey, EXAMPLES, STEPS, derandomize=True)
    assert [what for what in TRIED if not done[what]] == [], done
