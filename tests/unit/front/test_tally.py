from __future__ import annotations

import logging
from typing import Any

import pytest

from graycat.front.places import Places
from graycat.front.tally import Tally
from graycat.metrics import web
from tests.support.metered import value


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[Any, ...]]:
    found: list[Any] = [vars(record) for record in caplog.records]
    return [(line["message"], line["reason"], line["count"]) for line in found]


def test_a_flood_is_a_line_a_second_for_each_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = [100.0]
    tally = Tally(lambda: now[0])
    for _ in range(5000):
        tally.refuse("address")
        tally.cut("slow head")
        tally.report(Places())
        now[0] += 0.0005
    tally.report(Places())
    assert len(lines(caplog)) == 6
    assert sum(count for what, _, count in lines(caplog) if what == "connections refused") <= 5000
    caplog.clear()
    now[0] += 1.0
    tally.report(Places())
    assert {what for what, *_ in lines(caplog)} <= {"connections refused", "connections cut"}


def test_everything_is_counted_and_the_usual_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    names = [("connections_cut_total", "reason", "idle"), ("requests_rejected_total", "type", "uri_too_long")]
    before = [value(web, f"graycat_http_{name}", **{label: label_value}) for name, label, label_value in names]
    tally = Tally()
    tally.cut("idle")
    tally.reject("uri_too_long")
    tally.report(Places())
    after = [value(web, f"graycat_http_{name}", **{label: label_value}) for name, label, label_value in names]
    assert after == [count + 1 for count in before]
    assert lines(caplog) == [("requests that are not HTTP", "uri_too_long", 1)]
