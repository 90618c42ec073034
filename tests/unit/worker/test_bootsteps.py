from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import signals
from celery.worker.control import Panel

from graycat.celeryapp import create_celery
from graycat.engines.base import State
from graycat.errors import SettingsError
from graycat.fleet.workers import WorkerRegistry
from graycat.queue.topology import QUEUES
from graycat.settings import Settings
from graycat.tasks.sd import RenderCall
from graycat.worker import bootsteps as steps
from graycat.worker import runtime as rt
from graycat.worker.bootsteps import EngineStep, LowLatencyConsumer, MaintenanceStep, create_runtime
from tests.support.helpers import Stopwatch, Valkey, changed, eventually, outcome_of
from tests.support.servers import http_server
from tests.support.workers import WELL, worker_on


def celery_worker(settings: Settings, queues: str) -> Any:
    """Return as much of a Celery worker as the steps touch."""
    app = create_celery(settings)
    app.amqp.queues.select(queues.split(","))
    return SimpleNamespace(app=app, hostname="llm@here", steps=[])


@pytest.mark.parametrize(
    ("queues", "needs"), [("llm,llm.batch", True), ("llm.quick", True), ("sd,sd.batch", True), ("control", False)]
)
def test_only_a_worker_of_text_or_image_queues_has_an_engine(queues: str, needs: bool) -> None:
    worker = celery_worker(Settings(), queues)
    assert steps.consumed_queues(worker.app) == tuple(queues.split(","))
    assert EngineStep(worker).include_if(worker) is needs
    assert MaintenanceStep(worker).include_if(worker) is needs


def test_the_worker_of_the_llm_queue_owns_the_engine(tmp_path: Path) -> None:
    runtime = create_runtime(Settings(home=tmp_path), "llm@here", ("llm", "llm.batch"))
    assert (runtime.name, runtime.queues, runtime.engine.name) == ("llm@here", ("llm", "llm.batch"), "xllamacpp")
    assert runtime.engine.command()
    assert runtime.supervisor.state is State.STOPPED


@pytest.mark.parametrize(
    ("queues", "changes"),
    [
        (("llm.quick",), {}),
        (("llm.quick",), {"startup_command": "llama-server"}),
        (("llm",), {"llama_server_url": "http://b:1"}),
    ],
)
def test_any_other_engine_is_used_at_its_address(tmp_path: Path, queues, changes) -> None:
    settings = Settings(home=tmp_path, **changes)
    runtime = create_runtime(settings, "quick@here", queues)
    assert (runtime.engine.url, runtime.engine.command()) == (settings.llm_url, None)


def test_the_worker_of_the_sd_queue_has_an_image_engine(tmp_path: Path) -> None:
    runtime = create_runtime(Settings(home=tmp_path), "sd@here", ("sd", "sd.batch"))
    assert (runtime.engine.name, runtime.engine.url) == ("placeholder", "http://127.0.0.1:7860")
    assert runtime.engine.command()
    adopted = create_runtime(Settings(home=tmp_path, a1111_url="http://box:7860"), "sd@here", ("sd",))
    assert (adopted.engine.url, adopted.engine.command()) == ("http://box:7860", None)


def test_only_an_engine_of_the_worker_s_own_is_supplied(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, model_url="https://host/m.gguf", vae_url="https://host/v.safetensors")
    for queues in (("llm",), ("sd",)):
        assert create_runtime(settings, "w@here", queues).supervisor.download is not None
    assert create_runtime(settings, "w@here", ("llm.quick",)).supervisor.download is None
    adopting = changed(settings, llama_server_url="http://box:1", a1111_url="http://box:2")
    for queues in (("llm",), ("sd",)):
        assert create_runtime(adopting, "w@here", queues).supervisor.download is None


def test_an_engine_that_cannot_be_described_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="MODEL_URL"):
        create_runtime(Settings(home=tmp_path, model_url="/no/such.gguf"), "llm@here", ("llm",))


@pytest.fixture
def shutdown() -> Iterator[Any]:
    """Return Celery's signal of a worker's end, without what other tests connected."""
    before = signals.worker_shutdown.receivers
    signals.worker_shutdown.receivers = []
    interval_s = sys.getswitchinterval()
    yield signals.worker_shutdown
    sys.setswitchinterval(interval_s)
    signals.worker_shutdown.receivers = before


def test_a_worker_s_engine_is_watched_from_its_start_to_its_shutdown(broker, shutdown, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    # It collects all garbage: in a process that has run thousands of tests that takes a second.
    monkeypatch.setattr(steps, "settle_memory", lambda: None)
    with http_server(WELL) as seen:
        worker = celery_worker(changed(broker.settings, llama_server_url=seen.url), "llm,llm.batch")
        watch = Stopwatch()
        for step in (EngineStep(worker), MaintenanceStep(worker)):
            step.start(worker)
        assert watch.seconds < 0.5
        eventually(lambda: [w.engine_state for w in WorkerRegistry(broker.client).workers()] == ["ready"])
        assert rt.engine_runtime().name == "llm@here"
        shutdown.send(sender=None)
        assert WorkerRegistry(broker.client).workers() == []
        assert rt.engine_runtime().supervisor.state is State.STOPPED
        rt.engine_runtime().client.close()


def test_a_cancelled_task_is_stopped_from_afar(broker: Valkey) -> None:
    with worker_on(broker, {}) as worker, worker.runtime.running.track(worker.claim()) as call:
        task_id = worker.runtime.running.all()[0].attempt.task_id
        assert Panel.data["stop_task"](None, task_id=task_id) == {"ok": True}
        assert call.stopped == "cancelled"
        assert Panel.data["stop_task"](None, task_id="nobody") == {"ok": False}


@pytest.mark.parametrize(("how", "stopped"), [("cancel", "cancelled"), ("interrupt", "interrupted"), ("skip", None)])
def test_a_task_is_stopped_in_the_way_that_is_named(broker: Valkey, how: str, stopped: str | None) -> None:
    with worker_on(broker, {}) as worker, worker.runtime.running.track(worker.claim(), RenderCall()) as call:
        task_id = worker.runtime.running.all()[0].attempt.task_id
        assert Panel.data["stop_task"](None, task_id=task_id, how=how) == {"ok": True}
        assert call.stopped == stopped
        assert isinstance(call, RenderCall)
        assert call.skip_requested is (how == "skip")


def test_a_text_task_has_no_batch_to_skip(broker: Valkey) -> None:
    with worker_on(broker, {}) as worker, worker.runtime.running.track(worker.claim()) as call:
        task_id = worker.runtime.running.all()[0].attempt.task_id
        assert Panel.data["stop_task"](None, task_id=task_id, how="skip") == {"ok": False}
        assert call.stopped is None


def test_a_consumer_comes_back_as_soon_as_its_broker_does(mortal_broker: Valkey) -> None:
    app = create_celery(changed(mortal_broker.settings))
    mortal_broker.kill()
    with app.connection_for_read() as connection:
        connected = outcome_of(
            lambda: LowLatencyConsumer.ensure_connected(object.__new__(LowLatencyConsumer), connection)
        )
        mortal_broker.start()
        watch = Stopwatch()
        assert connected() is connection
        assert watch.seconds < 2.5
        assert connection.connected


class Hub:
    """As much of kombu's event loop as a consumer touches here."""

    def __init__(self) -> None:
        self.repeated: list[tuple[float, Any]] = []
        self.soon: list[Any] = []

    def call_repeatedly(self, every_s: float, function: Any) -> None:
        self.repeated.append((every_s, function))

    def call_soon(self, function: Any) -> None:
        self.soon.append(function)


def test_events_leave_by_the_clock_not_beside_a_task() -> None:
    flushed: list[bool] = []
    consumer: Any = object.__new__(LowLatencyConsumer)
    consumer.hub = Hub()
    consumer.blueprint = SimpleNamespace(send_all=lambda *_, **__: None)
    consumer.event_dispatcher = SimpleNamespace(flush=lambda: flushed.append(True))
    consumer.on_send_event_buffered()
    assert consumer.hub.soon == []
    consumer.register_with_event_loop(consumer.hub)
    ((every_s, flush),) = consumer.hub.repeated
    assert 0 < every_s <= 0.5
    flush()
    assert flushed == [True]


def test_a_worker_takes_only_what_its_engine_serves(tmp_path: Path) -> None:
    # As ``celery -A graycat worker`` does without queues.
    runtime = create_runtime(Settings(home=tmp_path), "any@here", QUEUES)
    assert (runtime.engine.name, runtime.queues) == ("placeholder", ("sd", "sd.batch", "control"))
