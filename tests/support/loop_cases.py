"""Cases of loops that serve many: each is given rubbish, and then has to serve the next good item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from graycat.loops import threads
from graycat.loops.unexpected import UNEXPECTED
from graycat.queue.records import TaskRecords
from tests.support.helpers import Valkey
from tests.support.workers import celery_app


@dataclass
class Bench:
    """What a case needs."""

    broker: Valkey
    monkeypatch: pytest.MonkeyPatch
    tmp_path: Path

    @property
    def client(self) -> Any:
        """Return a client of the broker."""
        return self.broker.client

    @property
    def records(self) -> TaskRecords:
        """Return the records of the broker."""
        return TaskRecords(self.broker.client, self.broker.settings)

    @property
    def app(self) -> Any:
        """Return a Celery application."""
        return celery_app(self.broker.settings.home)


def feeds(name: str) -> Callable[[Callable[[Bench], None]], Callable[..., None]]:
    """Make a test of the function that feeds this loop: the rubbish is counted, and the loop does not end."""

    def make(case: Callable[[Bench], None]) -> Callable[..., None]:
        def test(broker: Valkey, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
            ended: list[str] = []
            # What a thread's guard says of a loop that has ended. No item may come so far.
            monkeypatch.setattr(threads, "note", lambda ended_name, _: ended.append(ended_name))
            before = count(name)
            case(Bench(broker, monkeypatch, tmp_path))
            assert count(name) > before
            assert ended == []
            assert name not in threads.stuck_loops()

        return test

    return make


def count(name: str) -> float:
    """Return how many items a loop of this process has skipped."""
    value: float = UNEXPECTED.labels(name)._value.get()
    return value


def once(error: Exception, then: Callable[[], Any]) -> Callable[..., Any]:
    """Return a function that raises an error at its first call, and later does something else."""
    errors = [error]

    def act(*_: object, **__: object) -> Any:
        if errors:
            raise errors.pop()
        return then()

    return act
