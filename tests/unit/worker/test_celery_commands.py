from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import state as worker_state
from celery.worker.control import Panel

from graycat.worker import celery_commands
from graycat.worker.celery_commands import MAX_IDS, NO_IDS, NO_STAMPS, REFUSED
from graycat.worker.revocation import NO_ID
from graycat.worker.runtime import process
from tests.support.helpers import Valkey
from tests.support.workers import Worker, worker_on


class FakeConsumer:
    """Notes the queues that it is to join."""

    def __init__(self) -> None:
        self.joined: list[str] = []

    def add_task_queue(self, queue: str) -> None:
        self.joined.append(queue)

    def call_soon(self, function: Any, *arguments: Any) -> None:
        function(*arguments)


@pytest.fixture
def worker(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Yield a worker whose records the process knows."""
    with worker_on(broker, {}, queues=("llm", "llm.batch")) as made:
        monkeypatch.setattr(process, "records", made.records)
        monkeypatch.setattr(process, "webhook_sender", None)
        yield made


def call(name: str, **arguments: Any) -> dict[str, str]:
    """Return the reply to a command as the mailbox calls it."""
    reply: dict[str, str] = Panel.data[name](SimpleNamespace(), **arguments)
    return reply


@pytest.mark.parametrize("name", REFUSED)
def test_a_command_without_use_changes_nothing_and_says_what_to_do_instead(name: str) -> None:
    # With the arguments that Celery's own programs send.
    assert call(name, task_name="llm.completion", rate_limit="1/m", n=1, max=2, min=1) == {"error": REFUSED[name]}
    assert Panel.meta[name].help.endswith(f"{REFUSED[name]}.")


def test_stamps_revoke_nothing() -> None:
    # Celery's client reads "ok" of every reply.
    assert call("revoke_by_stamped_headers", headers=["a=b"], terminate=True, signal="KILL") == NO_STAMPS
    assert worker_state.revoked_stamps == {}


@pytest.mark.parametrize("task_id", [None, [], {}, 7, ["x"] * (MAX_IDS + 1)])
@pytest.mark.parametrize("name", ["revoke", "terminate"])
def test_without_ids_nothing_is_revoked(name: str, task_id: Any) -> None:
    assert call(name, task_id=task_id, signal="KILL") == NO_IDS


def test_a_revoke_is_not_remembered(worker: Worker) -> None:
    task_id = worker.accept()
    assert call("revoke", task_id=task_id, terminate=False, signal="SIGTERM") == {"ok": f"{task_id}: cancelled"}
    assert task_id not in worker_state.revoked


def test_ids_are_revoked_in_turn_and_once_each(worker: Worker) -> None:
    first, second = worker.accept(), worker.accept()
    reply = call("revoke", task_id=[first, second, first, 7])
    assert reply == {"ok": f"{first}: cancelled; {second}: cancelled; 7: {NO_ID}"}


def test_terminate_is_a_revoke_of_running_tasks_too(worker: Worker) -> None:
    attempt = worker.claim()
    assert call("revoke", task_id=attempt.task_id)["ok"].endswith("running, goes on")
    assert call("terminate", signal="KILL", task_id=[attempt.task_id])["ok"].endswith("running, asked to stop")
    assert call("revoke", task_id=[attempt.task_id], terminate=True)["ok"].endswith("running, asked to stop")


def test_a_worker_joins_only_queues_that_its_engine_serves(worker: Worker) -> None:
    consumer = FakeConsumer()
    state = SimpleNamespace(consumer=consumer)
    # As Celery's client sends it.
    options = {"exchange": None, "exchange_type": "direct", "routing_key": None}
    assert celery_commands.add_consumer(state, "llm.batch", **options) == {"ok": "takes from llm.batch"}
    for queue in ("sd", "llm.quick", "llm:another-model", "control", "celery", "", None, ["llm"]):
        assert "serves other queues only: llm, llm.batch" in celery_commands.add_consumer(state, queue)["error"]
    assert consumer.joined == ["llm.batch"]


@pytest.mark.parametrize("name", ["revoke", "terminate", "add_consumer", "rate_limit", "revoke_by_stamped_headers"])
def test_celery_s_command_line_takes_what_it_took_before(name: str) -> None:
    meta = Panel.meta[name]
    assert (meta.type, meta.visible) == ("control", True)
    assert meta.signature or name == "rate_limit"
