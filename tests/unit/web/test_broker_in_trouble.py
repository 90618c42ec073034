"""Every route in every trouble of docs/broker.md: 503 with the same code within two seconds, and no more than that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from graycat.errors import BrokerUnavailable
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import WorkerRegistry
from graycat.queue.records import TaskRecords
from graycat.web import create_app
from tests.support.good_requests import SCHEDULE, SPEC, TASK, fill, parts
from tests.support.helpers import changed, claimed
from tests.support.troubles import UNUSABLE, UNWRITABLE, FrailValkey, Trouble, cluster_node, silent
from tests.unit.web.conftest import client_of
from tests.unit.web.openapi.test_document import operations

#: Seconds that a request may take: the goal is two, and this process is busy with many requests at once.
ANSWERED_S = 5.0
#: Requests at the same time: few enough that this process is not what they wait for.
TOGETHER = 24
#: Operations that ask the broker for nothing, or say by their body that it is away.
NEED_NO_BROKER = {
    ("GET", "/openapi.json"),
    ("GET", "/health"),
    ("GET", "/v1/health"),
    ("GET", "/metrics"),
    ("GET", "/status"),
    ("GET", "/tokens/me"),
    ("GET", "/webhooks/secret"),
    ("POST", "/sdapi/v1/png-info"),
    ("POST", "/tokens/player"),
}
#: Operations that say what is wrong in a form of their own.
SAY_WHY = {("GET", "/ready"), ("GET", "/health/web")}
#: Operations that only read, though their method is not GET.
READ = {
    ("POST", "/batches/{batch_id}/gallery/link"),
    ("POST", "/health"),
    ("POST", "/v1/health"),
    ("POST", "/props"),
    ("POST", "/template"),
    # Sends a message that is not kept.
    ("POST", "/sdapi/v1/skip"),
}
#: Operations that end a task that has not ended yet.
CANCEL = {("DELETE", "/tasks/{task_id}"), ("POST", "/tasks/{task_id}/cancel")}
#: Operations that end something, or ask it to end.
ENDING = CANCEL | {("POST", "/sdapi/v1/interrupt"), ("POST", "/queues/{queue}/resume")}
#: GET operations that write: they run a task.
WRITE = {("GET", "/slots"), ("GET", "/lora-adapters")}


@dataclass(frozen=True)
class Answer:
    """What an operation answered."""

    operation: tuple[str, str]
    status: int
    text: str
    seconds: float

    @property
    def unavailable(self) -> bool:
        """Return whether it says that the broker cannot be used."""
        types = ('"type": "broker_unavailable"', '"type": "broker_full"')
        said = any(found in self.text for found in types) or self.operation in SAY_WHY
        return self.status == 503 and said


@pytest.fixture
def frail(tmp_path: Path) -> Iterator[FrailValkey]:
    """Yield a Valkey that may be brought into trouble."""
    valkey = FrailValkey(tmp_path)
    valkey.begin()
    yield valkey
    valkey.end()


@pytest.fixture
def web(frail: FrailValkey, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """Return a client of an application on that broker; its API token is an admin's."""
    monkeypatch.setattr("graycat.web.services.WORKERS_CACHE_S", 0.0)
    monkeypatch.setattr("graycat.status.snapshot.MAX_AGE_S", 0.0)
    # The workers of this test report once; on a busy machine it takes longer than a report counts.
    monkeypatch.setattr("graycat.fleet.workers.SILENT_AFTER_S", 600.0)
    return client_of(create_app(changed(frail.settings, admins="tests")))


@pytest.fixture
def names(frail: FrailValkey, web: FlaskClient) -> dict[str, str]:
    """Create what the variables of paths name, and workers that serve; return their names."""
    registry = WorkerRegistry(frail.client)
    for queue in ("llm", "sd"):
        serving: dict[str, Any] = {"engine_state": "ready", "consuming": True, "slots": 1, "busy": 0, "props": "{}"}
        registry.report(WorkerStatus(name=f"{queue}@box", queues=(queue,), engine="fake", **serving), {})
    made = web.post("/schedules", json=SCHEDULE | {"name": "nightly"})
    assert made.status_code == 201, made.text
    batch = web.post("/batches", json=SPEC).get_json()
    web.post(f"/batches/{batch['id']}/pause")
    task = web.post("/tasks", json=TASK).get_json()
    records = TaskRecords(frail.client, frail.settings)
    records.finish_cancelled(claimed(records, task["id"]))
    image = web.post("/tasks", json={"kind": "sd.txt2img", "input": {"prompt": "a fox"}}).get_json()
    claimed(records, image["id"], "sd@box")
    token = web.post("/tokens", json={"name": "old", "scopes": ["llm"]}).get_json()
    return {
        "task_id": task["id"],
        "queued_id": web.post("/tasks", json=TASK).get_json()["id"],
        "chosen_id": "mine",
        "batch_id": batch["id"],
        "name": "nightly",
        "number": "0",
        "prefix": token["prefix"],
        "model": "one",
        "queue": "sd.batch",
        "worker": "sd@box",
    }


def ask(web: FlaskClient, operation: tuple[str, str], names: dict[str, str]) -> Answer:
    """Send an operation's request."""
    method, path = operation
    request = parts(method, path)
    if operation in CANCEL:
        names = names | {"task_id": names["queued_id"]}
    client = client_of(web.application)
    started = time.monotonic()
    try:
        response = client.open(fill(path, names), method=method, **request)
    except BrokerUnavailable:
        # A zip of images that has begun is cut off: its status was sent before.
        return Answer(operation, 200, "", time.monotonic() - started)
    text = response.get_data().decode(errors="replace")
    return Answer(operation, response.status_code, text, time.monotonic() - started)


def ask_all(web: FlaskClient, names: dict[str, str], trouble: Trouble, frail: FrailValkey) -> list[Answer]:
    """Send every operation's request during a trouble, those that remove something last."""
    removing = [operation for operation in operations(web) if operation[0] == "DELETE"]
    others = [operation for operation in operations(web) if operation[0] != "DELETE"]
    answers: list[Answer] = []
    with trouble(frail), ThreadPoolExecutor(TOGETHER) as pool:
        for together in (others, removing):
            answers += pool.map(lambda operation: ask(web, operation, names), together)
    return answers


@pytest.mark.parametrize("trouble", UNUSABLE.values(), ids=UNUSABLE)
def test_a_broker_that_cannot_be_used(web, names, frail: FrailValkey, trouble: Trouble) -> None:
    answers = ask_all(web, names, trouble, frail)
    for answer in answers:
        if answer.operation in NEED_NO_BROKER:
            assert answer.status in (200, 201), answer
        else:
            assert answer.unavailable, answer
        assert answer.seconds < ANSWERED_S, answer
    assert len(answers) > 100


@pytest.mark.parametrize("trouble", UNWRITABLE.values(), ids=UNWRITABLE)
def test_a_broker_that_cannot_be_written(web, names, frail: FrailValkey, trouble: Trouble) -> None:
    answers = ask_all(web, names, trouble, frail)
    for answer in answers:
        method, _ = answer.operation
        reads = method == "GET" or answer.operation in READ | NEED_NO_BROKER
        # What is removed needs no memory, and what ends something has it in any case.
        ends = method == "DELETE" or answer.operation in ENDING
        may_succeed = ends and trouble is UNWRITABLE["full"]
        if answer.operation in WRITE or (not reads and not may_succeed):
            assert answer.unavailable, answer
        assert answer.status != 500, answer
        assert answer.seconds < ANSWERED_S, answer


def test_a_node_of_a_cluster_is_no_internal_error(web, names, frail: FrailValkey) -> None:
    answers = ask_all(web, names, cluster_node, frail)
    assert [answer for answer in answers if answer.status == 500] == []
    assert {answer.status for answer in answers if answer.operation == ("POST", "/tasks")} == {503}


def test_the_log_says_what_is_wrong_with_the_broker(web, frail, caplog: pytest.LogCaptureFixture) -> None:
    frail.admin.config_set("min-replicas-to-write", 1)
    assert web.post("/tasks", json=TASK).status_code == 503
    (record,) = [record for record in caplog.records if record.name == "graycat.web.errors"]
    assert (record.getMessage(), vars(record)["reason"]) == ("broker unavailable", "NOREPLICAS")


def test_connections_that_went_silent_cost_one_request(frail: FrailValkey) -> None:
    # What looks for revoked tokens has a connection of its own now and then.
    web = client_of(create_app(changed(frail.settings, admins="tests", revoked_tasks="finish")))
    pool = web.application.extensions["graycat"].broker.connection_pool
    held = [pool.get_connection() for _ in range(3)]
    for connection in held:
        pool.release(connection)
    with silent(frail):
        assert ask(web, ("GET", "/tasks"), {}).status == 503
    # Now as if the broker's answers were lost for good on the connections that were open then.
    assert [connection for connection in held if connection.is_connected] == []
    assert ask(web, ("GET", "/tasks"), {}).status == 200
