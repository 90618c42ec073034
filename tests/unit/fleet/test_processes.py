from __future__ import annotations

import json
import sys

import pytest

from graycat.broker.client import now_ms
from graycat.broker.keys import PROCESSES
from graycat.fleet.processes import FORGET_AFTER_MS, SILENT_AFTER_MS, ProcessReports, ProcessStatus
from tests.support.broker import BrokerClient

WEB = ProcessStatus("web", "running", 17)
SD = ProcessStatus("sd", "crash loop", None, 4, "killed by SIGKILL", 7.5)


def test_what_is_written_is_read_by_machine(client: BrokerClient) -> None:
    reports = ProcessReports(client)
    reports.write("a", [WEB, SD])
    reports.write("b", [])
    assert reports.read() == {"a": [WEB, SD], "b": []}
    reports.remove("a")
    assert reports.read() == {"b": []}


@pytest.mark.parametrize(("age_ms", "kept"), [(SILENT_AFTER_MS + 1000, True), (FORGET_AFTER_MS + 1000, False)])
def test_a_machine_that_is_silent_is_left_out_and_one_day_forgotten(
    client: BrokerClient, age_ms: int, kept: bool
) -> None:
    client.hset(PROCESSES, "a", json.dumps({"at_ms": now_ms(client) - age_ms, "processes": []}))
    assert ProcessReports(client).read() == {}
    assert bool(client.hexists(PROCESSES, "a")) is kept


def test_a_report_of_a_newer_version_is_read(client: BrokerClient) -> None:
    row = {"name": "web", "state": "running", "pid": 17, "colour": "blue"}
    report = {"at_ms": now_ms(client), "processes": [row], "more": 1}
    client.hset(PROCESSES, "a", json.dumps(report))
    assert ProcessReports(client).read() == {"a": [WEB]}


RUBBISH = [
    "[" * (sys.getrecursionlimit() + 10),
    '{"at_ms": Infinity, "processes": []}',
    "{half",
    "[]",
    "7",
    "null",
    '{"at_ms": "x"}',
    '{"at_ms": 1, "processes": 7}',
    b"\xff",
]


@pytest.mark.parametrize("row", RUBBISH)
def test_rubbish_is_passed_over_and_the_others_are_read(client: BrokerClient, row: str | bytes) -> None:
    reports = ProcessReports(client)
    client.hset(PROCESSES, "rubbish", row)
    reports.write("a", [WEB])
    assert reports.read() == {"a": [WEB]}


@pytest.mark.parametrize(
    "values", [7, None, {}, {"name": 7, "state": "x"}, {"name": "a", "state": "x", "restarts": "y"}]
)
def test_a_row_that_is_none_is_passed_over(client: BrokerClient, values: object) -> None:
    assert ProcessStatus.from_json(values) is None
