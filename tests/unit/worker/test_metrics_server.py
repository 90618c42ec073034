"""What a worker's tasks leave in its metrics, and the step that serves them."""

from __future__ import annotations

import json
import logging
import socket
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from celery import signals
from celery.exceptions import Reject

from graycat.celeryapp import create_celery
from graycat.engines.client import StopReason
from graycat.metrics import worker as work
from graycat.settings import Settings
from graycat.worker.metrics_server import MetricsStep
from graycat.worker.sweeper import Sweeper
from tests.support.helpers import PATIENCE_S, Valkey, changed, claimed, eventually, free_port, sse
from tests.support.servers import drop, hold, reply, stream
from tests.support.webuis import TXT2IMG, accept, image_worker_on, picture, rendered
from tests.support.workers import Worker, worker_on

COMPLETION = "POST /completion"
KIND = "llm.completion"


class Counting:
    """How series of the worker's metrics have grown since."""

    def __init__(self) -> None:
        self._before = self._all()

    @staticmethod
    def _all() -> dict[tuple[str, str], float]:
        samples = [sample for family in work.registry.collect() for sample in family.samples]
        kept = [s for s in samples if not s.name.endswith(("_bucket", "_created", "_sum"))]
        return {(s.name, ",".join(sorted(s.labels.values()))): s.value for s in kept}

    def grown(self) -> dict[str, float]:
        """Return by how much, as ``NAME{VALUES}`` without the prefix."""
        return {
            f"{name.removeprefix('graycat_')}{{{labels}}}": now - self._before.get((name, labels), 0.0)
            for (name, labels), now in self._all().items()
            if now != self._before.get((name, labels), 0.0)
        }


def test_a_stream_leaves_its_times_and_tokens(broker: Valkey) -> None:
    events = sse("Hel", "lo", "")
    events[-1] = b'data: {"content":"","stop":true,"tokens_predicted":2}\n\n'
    with worker_on(broker, {COMPLETION: stream(*events)}) as worker:
        task_id, counting = worker.accept(), Counting()
        worker.run(task_id)
        assert counting.grown() == {
            "task_queue_wait_seconds_count{llm}": 1,
            "task_attempts_total{first,llm.completion}": 1,
            "tasks_total{llm.completion,succeeded}": 1,
            "time_to_first_token_seconds_count{llm.completion}": 1,
            "tokens_total{llm.completion}": 2,
            "time_per_output_token_seconds_count{llm.completion}": 1,
            "tokens_per_second_count{llm.completion}": 1,
        }


@pytest.mark.parametrize("mode", ["stream", "gather"])
def test_events_are_counted_if_the_engine_tells_no_number(broker: Valkey, mode: str) -> None:
    events = [b'data: {"content":"a"}\n\n', b'data: {"content":"b"}\n\n']
    events.append(b'data: {"content":"","generation_settings":{},"stop":true}\n\n')
    with worker_on(broker, {COMPLETION: stream(*events)}) as worker:
        task_id, counting = worker.accept(mode=mode), Counting()
        worker.run(task_id)
        assert counting.grown()["tokens_total{llm.completion}"] == 2


def test_a_chat_s_first_and_last_events_are_no_tokens(broker: Valkey) -> None:
    deltas: tuple[dict[str, str], ...] = (
        {"role": "assistant"},
        {"content": "a"},
        {"content": "b"},
        {"content": "c"},
        {},
    )
    events = [b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n" for delta in deltas]
    with worker_on(broker, {"POST /v1/chat/completions": stream(*events, b"data: [DONE]\n\n")}) as worker:
        task_id, counting = worker.accept(kind="llm.chat"), Counting()
        worker.run(task_id)
        assert counting.grown()["tokens_total{llm.chat}"] == 3


@pytest.mark.parametrize(
    ("kind", "path", "body", "tokens"),
    [
        ("llm.chat", "/v1/chat/completions", {"usage": {"completion_tokens": 7, "prompt_tokens": 3}}, 7),
        ("llm.chat", "/v1/chat/completions", {"choices": ['"completion_tokens": 99'], "no": "usage"}, None),
        ("llm.embeddings", "/embeddings", {"usage": {"completion_tokens": 7}}, None),
    ],
)
def test_a_whole_answer_counts_the_tokens_it_tells(broker: Valkey, kind, path, body, tokens) -> None:
    with worker_on(broker, {f"POST {path}": reply(200, body)}) as worker:
        task_id, counting = worker.accept(kind=kind, mode="plain"), Counting()
        worker.run(task_id)
        assert counting.grown().get(f"tokens_total{{{kind}}}") == tokens


def test_a_cancelled_stream_tells_how_long_its_engine_was_held(broker: Valkey) -> None:
    with worker_on(broker, {COMPLETION: stream(sse("a", "b")[0], then=hold)}) as worker:
        task_id, counting = worker.accept(), Counting()
        end = worker.begin(task_id)
        assert worker.runtime.running.stop(task_id, StopReason.CANCELLED)
        end()
        grown = counting.grown()
        assert grown["tasks_total{cancelled,llm.completion}"] == 1
        assert grown["cancel_to_free_seconds_count{llm.completion}"] == 1


def test_an_attempt_that_is_handed_back_begins_again(broker: Valkey) -> None:
    with worker_on(broker, {COMPLETION: drop}) as worker:
        task_id, counting = worker.accept(), Counting()
        with pytest.raises(Reject):
            worker.run(task_id)
        worker.seen.answers[COMPLETION] = stream(*sse("a", ""))
        worker.supervisor.step(5.0)
        worker.run(task_id)
        grown = counting.grown()
        assert grown["tasks_total{handed_back,llm.completion}"] == 1
        assert grown["task_attempts_total{again,llm.completion}"] == 1
        assert grown["tasks_total{llm.completion,succeeded}"] == 1


def test_what_cannot_be_claimed_is_counted(broker: Valkey) -> None:
    with worker_on(broker, {}) as worker:
        cancelled, counting = worker.accept(), Counting()
        worker.records.cancel(cancelled)
        worker.run(cancelled)
        worker.task().execute("nobody")
        assert counting.grown() == {"tasks_total{dropped,llm.completion}": 2}


def test_images_leave_their_times_and_steps(broker: Valkey) -> None:
    answer = rendered(picture("red"), picture("blue")) | {"parameters": {"steps": 8}}
    with image_worker_on(broker, {TXT2IMG: reply(200, answer)}) as worker:
        task_id, counting = accept(worker), Counting()
        worker.run(task_id)
        grown = counting.grown()
        assert grown["images_total{sd.txt2img}"] == 2
        assert grown["image_seconds_count{sd.txt2img}"] == 1
        assert grown["image_steps_per_second_count{sd.txt2img}"] == 1


def test_a_swept_task_is_counted(broker: Valkey) -> None:
    with worker_on(broker, {}, lease_s=0.02) as worker:
        task_id = worker.accept()
        worker.client.delete("llm")
        sweeper, counting = Sweeper(worker.client, worker.settings, worker.app), Counting()
        eventually(sweeper.sweep)
        assert counting.grown() == {"tasks_swept_total{llm.completion}": 1}
        assert claimed(worker.records, task_id)


def celery_worker(settings: Settings, kind: str, queues: str, gpu: int | None = None) -> Any:
    """Return as much of a Celery worker as the step touches."""
    app = create_celery(settings, gpu, kind)
    app.amqp.queues.select(queues.split(","))
    return SimpleNamespace(app=app, hostname=f"{kind}@here", steps=[])


@pytest.mark.parametrize(("port", "kind", "serves"), [(0, "llm", False), (9820, "llm", True), (9820, "", False)])
def test_a_worker_serves_metrics_if_a_port_is_set(port: int, kind: str, serves: bool) -> None:
    worker = celery_worker(Settings(metrics_port=port), kind, "llm")
    assert MetricsStep(worker).include_if(worker) is serves


def started(settings: Settings, kind: str = "llm", queues: str = "llm") -> str:
    """Start the step; return what a scrape answers, and have the step stop."""
    worker = celery_worker(settings, kind, queues)
    step = MetricsStep(worker)
    step.start(worker)
    port = settings.metrics_port + {"llm": 20, "control": 0}[kind]
    try:
        return requests.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S).text
    finally:
        signals.worker_shutdown.send(worker.hostname)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody else hear of this worker's end."""
    monkeypatch.setattr(signals.worker_shutdown, "receivers", [])


def owned(broker: Valkey, worker: Worker) -> Settings:
    """Have a worker own its engine; return settings with a port for its metrics that is free."""
    worker.runtime.child = SimpleNamespace()  # type: ignore[assignment]
    return changed(broker.settings, metrics_port=free_port() - 20)


@pytest.mark.usefixtures("alone")
def test_a_scrape_tells_of_tasks_the_engine_and_the_process(broker: Valkey) -> None:
    with worker_on(broker, {}) as worker:
        text = started(owned(broker, worker))
    assert f'graycat_tasks_total{{kind="{KIND}"' in text
    assert "graycat_engine_starts_total 1.0" in text
    assert "graycat_engine_load_seconds" in text
    assert "process_resident_memory_bytes" in text


@pytest.mark.usefixtures("alone")
def test_a_worker_without_an_engine_of_its_own_counts_no_starts(broker: Valkey) -> None:
    with worker_on(broker, {}):
        settings = changed(broker.settings, metrics_port=free_port())
        text = started(settings, "control", "control")
    assert "graycat_webhook_deliveries" in text
    assert "graycat_engine_starts" not in text


@pytest.mark.usefixtures("alone")
def test_a_port_in_use_is_logged_and_the_worker_works(broker: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    with worker_on(broker, {}) as worker, socket.socket() as holder:
        settings = owned(broker, worker)
        holder.bind(("127.0.0.1", settings.metrics_port + 20))
        holder.listen()
        there = celery_worker(settings, "llm", "llm")
        caplog.set_level(logging.ERROR)
        MetricsStep(there).start(there)
    (record,) = [record for record in caplog.records if "no metrics" in record.message]
    assert vars(record)["setting"] == "GRAYCAT_METRICS_PORT"
