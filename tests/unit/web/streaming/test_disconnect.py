from __future__ import annotations

import json
import sys

import pytest

from tests.support.helpers import run


@pytest.fixture(scope="module")
def seen() -> dict[str, bool]:
    """Return what a process under gevent has seen; see hangups.py."""
    command = [sys.executable, "-W", "error", "-m", "gevent.monkey", "--module", "tests.support.hangups"]
    result = run(command)
    assert result.returncode == 0, result.stderr
    outcome: dict[str, bool] = json.loads(result.stdout)
    return outcome


@pytest.mark.parametrize("act", ["close", "half close", "reset"])
def test_a_client_that_hangs_up_is_noticed(seen: dict[str, bool], act: str) -> None:
    assert seen[act]


@pytest.mark.parametrize("act", ["nothing", "more bytes"])
def test_a_client_that_stays_is_not(seen: dict[str, bool], act: str) -> None:
    assert not seen[act]


def test_what_happens_after_the_block_is_nobody_s_business(seen: dict[str, bool]) -> None:
    assert not seen["after the block"]


def test_without_a_socket_there_is_nothing_to_watch(seen: dict[str, bool]) -> None:
    assert not seen["without a socket"]


def test_a_socket_that_we_close_ourselves_is_let_go(seen: dict[str, bool]) -> None:
    assert seen["closed by us"]
