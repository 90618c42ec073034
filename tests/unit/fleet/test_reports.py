from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from typing import Any

import pytest

from graycat.broker import keys
from graycat.fleet.reports import (
    GPU_FIELDS,
    MAX_ENTRIES,
    MAX_NUMBER,
    MAX_REPORT_BYTES,
    MAX_TEXT_CHARS,
    WorkerStatus,
    parse_report,
)
from graycat.fleet.workers import MAX_CATALOG_BYTES, MAX_LISTS, MAX_OF_BOX, WorkerRegistry
from tests.support.broker import BrokerClient

HONEST = WorkerStatus(
    name="llm@box",
    queues=("llm", "llm.batch"),
    engine="llama-server",
    engine_state="ready",
    consuming=True,
    slots=4,
    busy=1,
    props='{"total_slots": 4}',
)


def parsed(name: str = "llm@box", **lies: Any) -> WorkerStatus | None:
    return parse_report(name, json.dumps(asdict(HONEST) | lies).encode())


def test_an_honest_report_is_read_as_it_is() -> None:
    assert parsed() == HONEST


def test_a_report_speaks_of_the_worker_in_its_key_alone() -> None:
    status = parsed(name="llm@home")
    assert status is not None
    assert parse_report("llm@box", json.dumps(asdict(HONEST) | {"name": "llm@home"}).encode()) == HONEST


@pytest.mark.parametrize(
    ("name", "queues"),
    [
        ("llm@box", ("llm", "llm.batch", "llm:a-model")),
        ("quick@box", ("llm.quick",)),
        ("sd@box-gpu1", ("sd", "sd.batch")),
        ("control@home", ("control",)),
        ("mine", ("llm", "llm.batch", "llm.quick", "sd", "sd.batch", "control", "llm:a-model")),
    ],
)
def test_a_worker_takes_from_the_queues_of_its_kind_alone(name: str, queues: tuple[str, ...]) -> None:
    everything = ["llm", "llm.batch", "llm.quick", "sd", "sd.batch", "control", "llm:a-model"]
    status = parse_report(name, json.dumps(asdict(HONEST) | {"queues": everything}).encode())
    assert status is not None
    assert set(status.queues) == set(queues)


@pytest.mark.parametrize("field", ["slots", "busy", "failures", "retry_in_s", "slots_age_s", "gpu"])
@pytest.mark.parametrize("value", [-1, MAX_NUMBER + 1, float("nan"), float("inf"), "1", True, [], {}])
def test_a_number_that_is_none_makes_no_report(field: str, value: Any) -> None:
    assert parsed(**{field: value}) is None


@pytest.mark.parametrize("field", ["queues", "models", "left", "stuck"])
@pytest.mark.parametrize("value", ["llm", 7, [7], [["llm"]], ["x"] * (MAX_ENTRIES + 1), {}, None])
def test_a_list_that_is_none_makes_no_report(field: str, value: Any) -> None:
    assert parsed(**{field: value}) is None


@pytest.mark.parametrize("field", ["consuming", "paused", "crash_loop"])
@pytest.mark.parametrize("value", [1, "true", None, []])
def test_a_truth_that_is_none_makes_no_report(field: str, value: Any) -> None:
    assert parsed(**{field: value}) is None


@pytest.mark.parametrize("field", ["engine", "engine_state", "trouble", "last_failure", "catalog"])
def test_a_text_has_no_commands_for_a_terminal_and_an_end(field: str) -> None:
    status = parsed(**{field: "a\x1b[2Jb\r\n" + "x" * MAX_TEXT_CHARS})
    assert status is not None
    text = getattr(status, field)
    assert (text.startswith("a [2Jb  x"), len(text), text.isprintable()) == (True, MAX_TEXT_CHARS, True)


@pytest.mark.parametrize("state", [7, "x", [], {}, dict.fromkeys(GPU_FIELDS, -1), dict.fromkeys(GPU_FIELDS, "1")])
def test_a_gpu_s_state_that_is_none_makes_no_report(state: Any) -> None:
    assert parsed(gpu_state=state) is None


@pytest.mark.parametrize(
    "report", [b"", b"7", b"[]", b"null", b"{half", b"\xff", b'"' + b"x" * MAX_REPORT_BYTES + b'"']
)
def test_what_is_no_report_is_none(report: bytes) -> None:
    assert parse_report("llm@box", report) is None


def test_a_report_is_read_to_its_longest_and_no_further(client: BrokerClient) -> None:
    fleet = WorkerRegistry(client)
    fleet.report(HONEST)
    fleet.report(replace(HONEST, name="llm@other", props="x" * MAX_REPORT_BYTES))
    assert fleet.workers() == [HONEST]


@pytest.mark.parametrize("name", ["", "a b", "\x1b[2J", "x" * 201, "süß"])
def test_a_name_that_no_worker_has_is_forgotten(client: BrokerClient, name: str) -> None:
    client.zadd(keys.fleet_key("home"), {name: time.time()})
    assert WorkerRegistry(client).alive_and_missing() == ([], [])
    assert not client.exists(keys.fleet_key("home"))


@pytest.mark.parametrize("seen_at", [float("inf"), 1e12, 0])
def test_a_worker_that_reports_in_another_age_is_not_missed(client: BrokerClient, seen_at: float) -> None:
    client.zadd(keys.fleet_key("llm"), {"llm@nowhere": seen_at})
    assert WorkerRegistry(client).alive_and_missing() == ([], [])
    assert not client.exists(keys.fleet_key("llm"))


def test_one_box_has_so_many_workers_and_the_others_are_all_there(client: BrokerClient) -> None:
    fleet = WorkerRegistry(client)
    fleet.report(HONEST)
    client.zadd(keys.fleet_key("llm"), {f"llm@liar-gpu{number}": time.time() for number in range(MAX_OF_BOX + 50)})
    alive, missing = fleet.alive_and_missing()
    assert (alive, len(missing)) == ([HONEST], MAX_OF_BOX)
    assert client.zcard(keys.fleet_key("llm")) == MAX_OF_BOX + 1


@pytest.mark.parametrize(
    "lists",
    [{f"list-{number}": b"[]" for number in range(MAX_LISTS + 1)}, {"samplers": b"x" * (MAX_CATALOG_BYTES + 1)}],
    ids=["many", "large"],
)
def test_a_catalog_that_is_larger_than_any_is_none(client: BrokerClient, lists: dict[str, bytes]) -> None:
    client.hset(keys.catalog_key("sd@box"), mapping=lists)
    assert WorkerRegistry(client).catalog("sd@box") == {}
