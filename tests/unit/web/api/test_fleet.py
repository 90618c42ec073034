"""What an operator does to workers and queues over HTTP."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from graycat.broker.keys import PAUSED_QUEUES
from graycat.errors import BrokerUnavailable
from tests.support.broker import BrokerClient

#: How a worker is asked, and what it gets.
COMMANDS = {"pause": "pause_worker", "resume": "resume_worker", "drain": "drain_worker"}


@pytest.fixture
def admin(web_with) -> FlaskClient:
    """Return a client whose API token is an admin's."""
    client: FlaskClient = web_with(admins="tests")
    return client


class Answers:
    """Answers in the place of workers; notes what they were asked."""

    def __init__(self) -> None:
        self.reply: Any = {"ok": "does it"}
        self.asked: list[tuple[str, dict[str, Any], str]] = []

    def __call__(self, _app: Any, command: str, arguments: dict[str, Any], worker: str, _timeout_s: float) -> Any:
        """Do what ``ask_worker`` does."""
        self.asked.append((command, arguments, worker))
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    found = Answers()
    monkeypatch.setattr("graycat.web.api.fleet.ask_worker", found)
    return found


def type_of(response: Any) -> tuple[int, str]:
    return response.status_code, response.json["error"]["type"]


def test_a_queue_is_paused_and_resumed(admin, client: BrokerClient) -> None:
    response = admin.post("/queues/sd.batch/pause")
    assert (response.status_code, response.json) == (200, {"name": "sd.batch", "message": "sd.batch is paused"})
    assert client.smembers(PAUSED_QUEUES) == {b"sd.batch"}
    assert admin.post("/queues/sd.batch/pause").status_code == 200
    assert admin.post("/queues/sd.batch/resume").json["message"] == "sd.batch is resumed"
    assert client.smembers(PAUSED_QUEUES) == set()


@pytest.mark.parametrize("name", ["nothing", "llm:model", "sd:@worker", "LLM"])
def test_a_queue_that_is_not_there_changes_nothing(admin, client: BrokerClient, name: str) -> None:
    for verb in ("pause", "resume"):
        response = admin.post(f"/queues/{name}/{verb}")
        assert type_of(response) == (404, "queue_not_found")
        assert "sd.batch" in response.json["error"]["message"]
    assert client.smembers(PAUSED_QUEUES) == set()


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_worker_is_told_and_its_answer_is_shown(admin, report, answers: Answers, verb: str) -> None:
    report("llm")
    response = admin.post(f"/workers/llm@box/{verb}")
    assert (response.status_code, response.json) == (200, {"name": "llm@box", "message": "llm@box does it"})
    assert answers.asked == [(COMMANDS[verb], {}, "llm@box")]


def test_a_drain_may_have_a_limit(admin, report, answers: Answers) -> None:
    report("llm")
    assert admin.post("/workers/llm@box/drain", json={"limit_s": 300}).status_code == 200
    assert admin.post("/workers/llm@box/drain", json={}).status_code == 200
    assert [arguments for _, arguments, _ in answers.asked] == [{"limit_s": 300.0}, {}]


@pytest.mark.parametrize(
    "body", [{"limit_s": "1h"}, {"limit_s": True}, {"limit_s": -1}, {"limit_s": 10**9}, {"limit": 1}, []]
)
def test_a_limit_that_is_none_is_refused_before_the_worker_is_told(admin, report, answers: Answers, body: Any) -> None:
    report("llm")
    assert type_of(admin.post("/workers/llm@box/drain", json=body)) == (400, "invalid_request_error")
    assert answers.asked == []


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_worker_that_is_not_there_is_not_asked(admin, answers: Answers, verb: str) -> None:
    assert type_of(admin.post(f"/workers/llm@nowhere/{verb}")) == (404, "worker_not_found")
    assert answers.asked == []


@pytest.mark.parametrize(
    ("reply", "status", "error"),
    [
        ({"error": "has no engine, and so nothing to pause"}, 409, "worker_refused"),
        ({"of": "a later release"}, 409, "worker_refused"),
        (None, 504, "worker_silent"),
        (BrokerUnavailable(), 503, "broker_unavailable"),
    ],
)
def test_a_worker_that_does_not_follow_is_told_of(
    admin, report, answers: Answers, reply: Any, status: int, error: str
) -> None:
    report("control")
    answers.reply = reply
    assert type_of(admin.post("/workers/control@box/pause")) == (status, error)


@pytest.mark.parametrize(
    "path", ["/queues/sd/pause", "/queues/sd/resume", "/workers/llm@box/pause", "/workers/llm@box/drain"]
)
def test_others_may_not(web, report, answers: Answers, path: str) -> None:
    report("llm")
    assert type_of(web.post(path)) == (403, "permission_error")
    assert web.post(path, headers={"Authorization": ""}).status_code == 401
    assert answers.asked == []


def test_the_log_has_who_did_it(admin, report, answers: Answers, caplog: pytest.LogCaptureFixture) -> None:
    report("llm")
    caplog.set_level(logging.WARNING)
    admin.post("/workers/llm@box/pause")
    admin.post("/queues/sd/pause")
    lines = [
        (record.message, record.__dict__["target"], record.__dict__["by"])
        for record in caplog.records
        if "by" in vars(record)
    ]
    assert lines == [("worker paused", "llm@box", "tests"), ("queue paused", "sd", "tests")]


def test_the_commands_of_the_guide_are_routes(admin, report, answers: Answers) -> None:
    guide = (Path(__file__).parents[4] / "docs" / "operating.md").read_text(encoding="utf-8")
    section = guide.partition("## Over REST")[2].partition("## Memory")[0]
    paths = re.findall(r"curl (?:-X POST )?\$GRAYCAT(\S+)", section)
    assert len(paths) == 5
    report("llm", name="llm@box7")
    assert [admin.post(path).status_code for path in paths] == [200] * 5
