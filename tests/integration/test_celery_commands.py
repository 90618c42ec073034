"""Operators use Celery's own commands on a running stack."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.support.processes import eventually
from tests.support.stack import BIN, ROOT, Stack
from tests.support.unity import send_post


def celery(stack: Stack, command: str, **env: str) -> str:
    """Return what ``celery -A graycat`` prints."""
    words = [str(BIN / "celery"), "-A", "graycat", *command.split()]
    done = subprocess.run(words, cwd=ROOT, env=stack.env | env, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done.stdout


def replies(stack: Stack, command: str) -> dict[str, Any]:
    """Return what each kind of worker replies to an inspection."""
    answers: dict[str, Any] = json.loads(celery(stack, f"inspect {command} --json"))
    return {name.partition("@")[0]: answer for name, answer in answers.items()}


def test_workers_answer_a_ping(stack: Stack) -> None:
    assert replies(stack, "ping") == {name: {"ok": "pong"} for name in ("llm", "quick", "control")}
    status = celery(stack, "status")
    assert "3 nodes online" in status


def test_each_worker_consumes_its_queues_interactive_first(stack: Stack) -> None:
    found = replies(stack, "active_queues")
    queues = {name: [queue["name"] for queue in consumed] for name, consumed in found.items()}
    model = "gemma-3-270m-q4_k_m"
    assert queues == {
        "llm": ["llm", f"llm:{model}", "llm.batch", f"llm.batch:{model}"],
        "quick": ["llm.quick", f"llm.quick:{model}"],
        "control": ["control"],
    }


def test_what_runs_shows_its_id_and_no_prompt(stack: Stack) -> None:
    body = {"prompt": "zebraprompt", "n_predict": 2000, "ignore_eos": True, "stream": True}
    with send_post(stack.url, "/completion", body, stack.token, {"X-Request-ID": "shown-by-celery"}):
        eventually(lambda: stack.record("shown-by-celery").get("state") == "running", 20)
        text = celery(stack, "inspect active --json")
    (task,) = next(tasks for name, tasks in json.loads(text).items() if name.startswith("llm@"))
    assert (task["name"], task["args"], task["kwargs"]) == ("llm.completion", [task["id"]], {})
    assert "zebraprompt" not in text
    eventually(lambda: stack.record("shown-by-celery").get("state") == "cancelled", 20)


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"REDIS_HOST": "broker.example", "REDIS_PASS": "walrus-secret"},
        {"REDIS_URL": "redis://user:walrus-secret@broker.example:6379/0"},
    ],
    ids=["embedded", "host and password", "url"],
)
def test_a_report_shows_no_secret(stack: Stack, env: dict[str, str]) -> None:
    report = celery(stack, "report", **env)
    assert "task_acks_late: True" in report
    assert "walrus-secret" not in report
    assert stack.token not in report


def test_the_worker_command_has_its_help(stack: Stack) -> None:
    assert "--hostname" in celery(stack, "worker --help")
