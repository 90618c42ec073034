from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from graycat.cli.signals import ENDING, ignore, raised, stop_event

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Restore the handlers of both signals."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_sets_the_event(number: signal.Signals) -> None:
    stopping = stop_event()
    assert not stopping.is_set()
    os.kill(os.getpid(), number)
    assert stopping.wait(5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_block_ends_at_a_signal_and_cleans_up_undisturbed(number: signal.Signals) -> None:
    # Under nohup the tests themselves ignore it.
    outside = signal.signal(number, signal.SIG_DFL)
    before = [signal.getsignal(each) for each in ENDING]
    cleaned = []

    def block() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)
            cleaned.append(True)

    with pytest.raises(SystemExit) as caught, raised():
        block()
    assert (caught.value.code, cleaned) == (128 + number, [True])
    assert [signal.getsignal(each) for each in ENDING] == before
    signal.signal(number, outside)


def test_what_nohup_has_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with raised():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_belongs_together_is_not_interrupted() -> None:
    with raised():
        ignore()
        for number in ENDING:
            os.kill(os.getpid(), number)
