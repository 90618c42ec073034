from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.support.helpers import run


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """Return what a process under gevent saw; see tests/support/disconnects.py."""
    command = [sys.executable, "-W", "error", "-m", "gevent.monkey", "--module", "tests.support.disconnects"]
    result = run(command)
    assert result.returncode == 0, result.stderr
    outcome: dict[str, Any] = json.loads(result.stdout)
    return outcome


@pytest.mark.parametrize(
    "act",
    [
        "close",
        "half close",
        "reset",
        "line end and close",
        "next request and close",
        "many bytes and close",
        "line end and half close",
        "line end and reset",
    ],
)
def test_a_disconnect_is_noticed(seen: dict[str, Any], act: str) -> None:
    assert seen[act]


@pytest.mark.parametrize("act", ["nothing", "more bytes", "more bytes for long"])
def test_a_client_that_stays_is_not_taken_for_disconnected(seen: dict[str, Any], act: str) -> None:
    assert not seen[act]


def test_the_next_request_is_left_for_the_server(seen: dict[str, Any]) -> None:
    assert seen["bytes left for the server"] == "POST /next"


def test_a_disconnect_after_the_block_is_ignored(seen: dict[str, Any]) -> None:
    assert not seen["after the block"]


def test_without_a_socket_nothing_is_watched(seen: dict[str, Any]) -> None:
    assert not seen["without a socket"]


def test_the_block_ends_if_the_server_closes_the_socket_itself(seen: dict[str, Any]) -> None:
    assert seen["closed by us"]


def test_a_pipelined_byte_does_not_spin_the_event_loop(seen: dict[str, Any]) -> None:
    assert seen["reads of a pipelined byte"] == 1


def test_a_callback_that_raises_ends_no_other_watch(seen: dict[str, Any]) -> None:
    assert seen["beside a callback that raises"]
