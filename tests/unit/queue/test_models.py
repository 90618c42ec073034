from __future__ import annotations

from pathlib import Path

import pytest

from graycat.broker.scripts import Scripts
from graycat.client import views
from graycat.queue.models import STATES, TERMINAL_STATES, UNSUCCESSFUL_STATES, Verdict
from graycat.webhooks.webhook import EVENTS
from tests.support.broker import BrokerClient

SCRIPT = """-- requires: broker/prelude
return tostring(is_terminal(ARGV[1]))
"""


@pytest.mark.parametrize("state", [*STATES, "", "unheard-of"])
def test_scripts_know_the_terminal_states(client: BrokerClient, tmp_path: Path, state: str) -> None:
    (tmp_path / "ask.lua").write_text(SCRIPT)
    scripts = Scripts(client, tmp_path, ("ask",))
    assert scripts.run("ask", [], [state]) == str(state in TERMINAL_STATES).lower().encode()


def test_the_client_knows_the_terminal_states() -> None:
    assert frozenset(TERMINAL_STATES) == views.ENDED


def test_every_state_but_waiting_is_an_event_of_webhooks() -> None:
    assert set(EVENTS) == {"started", *TERMINAL_STATES}


def test_a_task_ends_well_in_one_way() -> None:
    assert set(TERMINAL_STATES) - set(UNSUCCESSFUL_STATES) == {"succeeded"}
    assert len(set(STATES)) == len(STATES)


def test_a_way_to_stop_that_is_not_known_is_a_cancel() -> None:
    assert Verdict("as the next release does") is Verdict.CANCEL
    assert Verdict("stale") is Verdict.STALE
