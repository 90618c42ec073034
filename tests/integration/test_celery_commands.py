"""Operators use Celery's own commands on running workers, and programs its control API."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pytest_celery import CeleryTestWorker, CeleryWorkerCluster

from tests.support.celery_nodes import GraycatSetup, ProcessContainer
from tests.support.processes import eventually
from tests.support.stack import START_S
from tests.support.supervised import Supervised

WORKERS = ("llm", "quick", "control")


@pytest.fixture(scope="module")
def celery_worker_cluster(celery_stack: Supervised, celery_worker: CeleryTestWorker) -> CeleryWorkerCluster:
    """Return a worker of each kind that the stack has."""
    workers = [celery_worker]
    for name in WORKERS[1:]:
        worker = CeleryTestWorker(ProcessContainer(celery_stack, name), app=None)
        worker.container.start()
        workers.append(worker)
    return CeleryWorkerCluster(*workers)


def celery(stack: Supervised, command: str, **env: str) -> str:
    """Return what ``celery -A graycat`` prints."""
    done = stack.celery(command, **env)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done.stdout


def replies(stack: Supervised, command: str) -> dict[str, Any]:
    """Return what each worker replies to an inspection."""
    answers: dict[str, Any] = json.loads(celery(stack, f"inspect {command} --json"))
    return answers


def test_workers_answer_a_ping(celery_setup: GraycatSetup, celery_stack: Supervised) -> None:
    names = {worker.hostname() for worker in celery_setup.worker_cluster}
    assert names == {"llm@box", "quick@box", "control@box"}
    eventually(lambda: celery_setup.ready(ping=True, control=True), START_S)
    assert replies(celery_stack, "ping") == {name: {"ok": "pong"} for name in names}
    status = celery(celery_stack, "status")
    assert "3 nodes online" in status


def test_each_worker_consumes_its_queues_interactive_first(
    celery_setup: GraycatSetup, celery_stack: Supervised
) -> None:
    found = replies(celery_stack, "active_queues")
    queues = {name: [queue["name"] for queue in consumed] for name, consumed in found.items()}
    assert queues == {
        "llm@box": ["llm", "llm:fake", "llm.batch", "llm.batch:fake"],
        "quick@box": ["llm.quick", "llm.quick:fake"],
        "control@box": ["control"],
    }


def test_what_runs_shows_its_id_and_no_prompt(celery_setup: GraycatSetup, celery_stack: Supervised) -> None:
    # Four seconds: celery needs one of them to start.
    task_id = celery_setup.submit(tokens=200, prompt="zebraprompt")
    celery_setup.wait_for_state(task_id, "running")
    text = celery(celery_stack, "inspect active --json")
    (task,) = json.loads(text)["llm@box"]
    assert (task["id"], task["name"], task["args"], task["kwargs"]) == (task_id, "llm.completion", [task_id], {})
    assert "zebraprompt" not in text
    assert celery_setup.finish(task_id)


@pytest.mark.parametrize(
    ("command", "answer", "log"),
    [
        ("pause_worker", "takes nothing until it is resumed", "worker paused"),
        ("resume_worker", "takes tasks again", "worker resumed"),
    ],
)
def test_the_control_api_pauses_and_resumes_a_worker(
    celery_setup: GraycatSetup, command: str, answer: str, log: str
) -> None:
    worker = celery_setup.worker
    (reply,) = celery_setup.app.control.broadcast(command, destination=[worker.hostname()], reply=True, limit=1)
    assert reply == {worker.hostname(): {"ok": answer}}
    worker.assert_log_exists(log)


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"REDIS_HOST": "broker.example", "REDIS_PASS": "walrus-secret"},
        {"REDIS_URL": "redis://user:walrus-secret@broker.example:6379/0"},
    ],
    ids=["embedded", "host and password", "url"],
)
def test_a_report_shows_no_secret(celery_stack: Supervised, env: dict[str, str]) -> None:
    report = celery(celery_stack, "report", **env)
    assert "task_acks_late: True" in report
    assert "walrus-secret" not in report
    assert celery_stack.token not in report


def test_the_worker_command_has_its_help(celery_stack: Supervised) -> None:
    assert "--hostname" in celery(celery_stack, "worker --help")
