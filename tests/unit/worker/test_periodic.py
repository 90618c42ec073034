from __future__ import annotations

import threading
import time
from typing import Any

from celery.worker import state

from graycat.errors import BrokerUnavailable
from graycat.loops.threads import stuck_loops
from graycat.worker import periodic
from graycat.worker.periodic import Duty, PeriodicThread, renew_messages
from tests.support.helpers import Valkey, eventually

TICK_S = 0.005


def test_each_duty_is_done_when_it_is_due() -> None:
    done: list[str] = []
    duties = PeriodicThread(
        "control", TICK_S, [Duty(0.01, lambda: done.append("often")), Duty(60, lambda: done.append("once"))]
    )
    duties.start()
    eventually(lambda: done.count("often") > 3)
    duties.stop()
    assert done.count("once") == 1
    before = len(done)
    duties.stop()
    assert len(done) == before


def test_a_broker_that_is_away_ends_nothing(caplog: Any) -> None:
    done: list[int] = []

    def failing() -> None:
        done.append(1)
        raise BrokerUnavailable

    duties = PeriodicThread("control", TICK_S, [Duty(0, failing)])
    duties.start()
    eventually(lambda: len(done) > 2)
    duties.stop()
    records = [record for record in caplog.records if record.name == periodic.__name__]
    assert {record.getMessage() for record in records} == {"broker unavailable"}
    assert records[0].duty == "failing"


def test_a_duty_with_a_defect_keeps_no_other_from_being_done(caplog: Any) -> None:
    done: list[int] = []

    def broken() -> None:
        raise ZeroDivisionError("a secret")

    duties = PeriodicThread("control", TICK_S, [Duty(0, broken), Duty(0, lambda: done.append(1))])
    duties.start()
    eventually(lambda: len(done) > 2)
    duties.stop()
    record = next(record for record in caplog.records if record.levelname == "ERROR")
    assert (record.where, record.error) == ("control", "ZeroDivisionError")
    assert "secret" not in caplog.text


def test_a_duty_that_does_not_end_is_told_until_it_does() -> None:
    hangs = threading.Event()
    duties = PeriodicThread("control", TICK_S, [Duty(0, hangs.wait)])
    duties.loop.stuck_after_s = 0.05
    duties.start()
    eventually(lambda: "control" in stuck_loops())
    hangs.set()
    eventually(lambda: "control" not in stuck_loops())
    duties.stop()


class FakeRequest:
    """As much of Celery's request as matters here."""

    acknowledged = False

    def __init__(self, tag: str) -> None:
        self.message = self
        self.delivery_tag = tag


def test_only_messages_that_are_held_are_renewed(broker: Valkey, monkeypatch: Any) -> None:
    done = FakeRequest("done")
    done.acknowledged = True
    monkeypatch.setattr(state, "reserved_requests", {FakeRequest("held"), done, FakeRequest("gone")})
    broker.client.zadd("unacked_index:llm", {"held": 1, "done": 1, "another's": 1})
    renew_messages(broker.client, "llm")
    scores = dict(broker.client.zrange("unacked_index:llm", 0, -1, withscores=True))
    assert time.time() - scores.pop(b"held") < 5
    assert scores == {b"done": 1, b"another's": 1}


def test_a_worker_that_holds_nothing_asks_nothing() -> None:
    unused: Any = None
    renew_messages(unused, "llm")
