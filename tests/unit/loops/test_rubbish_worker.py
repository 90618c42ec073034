"""The loops of workers with an engine are given rubbish, and then serve the next good item."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import requests
from celery import signals

from graycat.broker import keys
from graycat.broker.quarantine import Quarantine
from graycat.engines import gpus
from graycat.engines.client import StopReason
from graycat.metrics.server import MetricsServer, join_collectors
from graycat.tasks.sd import RenderCall, RenderWatcher
from graycat.worker import bootsteps, engine_slots, maintenance
from graycat.worker.maintenance import WorkerMaintenance
from graycat.worker.sweeper import LOCKS, Sweeper
from graycat.worker.web_disconnects import AbandonedTasks
from tests.support.helpers import PATIENCE_S, accepted, changed, eventually
from tests.support.loop_cases import Bench, count, feeds, once
from tests.support.workers import worker_on


@feeds("maintenance")
def test_maintenance(bench: Bench) -> None:
    """The record of one running task is replaced; the lease of another one is renewed all the same."""
    bench.monkeypatch.setattr(maintenance, "TICK_INTERVAL_S", 0.01)
    with worker_on(bench.broker, {}, lease_s=0.1) as worker:
        spoiled, good = worker.claim(), worker.claim()
        with worker.runtime.running.track(spoiled), worker.runtime.running.track(good):
            bench.client.delete(keys.record_key(spoiled.task_id))
            bench.client.set(keys.record_key(spoiled.task_id), "no record")
            lease_ms = worker.records.get(good.task_id)["lease_ms"]
            duties = WorkerMaintenance(worker.runtime, worker.app)
            duties.start()
            eventually(lambda: worker.records.get(good.task_id)["lease_ms"] > lease_ms)
            duties.stop()


@feeds("artifacts")
def test_artifacts(bench: Bench) -> None:
    bench.monkeypatch.setattr(maintenance, "TICK_INTERVAL_S", 0.01)
    bench.monkeypatch.setattr(maintenance, "ARTIFACT_SWEEP_INTERVAL_S", 0.01)
    swept = threading.Event()
    with worker_on(bench.broker, {}) as worker:
        bench.monkeypatch.setattr(worker.runtime.artifacts, "sweep", once(KeyError("mtime"), swept.set))
        duties = WorkerMaintenance(worker.runtime, worker.app)
        duties.start()
        assert swept.wait(PATIENCE_S)
        duties.stop()


@feeds("gpu")
def test_gpu(bench: Bench) -> None:
    bench.monkeypatch.setattr(maintenance, "TICK_INTERVAL_S", 0.01)
    bench.monkeypatch.setattr(maintenance, "GPU_POLL_INTERVAL_S", 0.01)
    state = gpus.GpuState(utilization=42, memory_used=3000, memory_total=8000, temperature=61)
    bench.monkeypatch.setattr(gpus, "read_gpu_state", once(ValueError("no number"), lambda: state))
    with worker_on(bench.broker, {}) as worker:
        worker.runtime.gpu = 0
        duties = WorkerMaintenance(worker.runtime, worker.app)
        duties.start()
        eventually(lambda: worker.runtime.gpu_state)
        duties.stop()


@feeds("slots")
def test_slots(bench: Bench) -> None:
    bench.monkeypatch.setattr(maintenance, "TICK_INTERVAL_S", 0.01)
    bench.monkeypatch.setattr(engine_slots, "REFRESH_INTERVAL_S", 0.01)
    looked = threading.Event()
    with worker_on(bench.broker, {}) as worker:
        bench.monkeypatch.setattr(worker.runtime.engine_slots, "refresh", once(KeyError("id"), looked.set))
        duties = WorkerMaintenance(worker.runtime, worker.app)
        duties.start()
        assert looked.wait(PATIENCE_S)
        duties.stop()


@feeds("supervisor")
def test_supervisor(bench: Bench) -> None:
    """A step that raises: the next one makes the engine ready."""
    with worker_on(bench.broker, {}) as worker:
        worker.supervisor.suspect()
        step = worker.supervisor.step
        bench.monkeypatch.setattr(worker.supervisor, "step", once(ValueError("props"), lambda: step(time.monotonic())))
        bench.monkeypatch.setattr(bootsteps, "create_runtime", lambda *_: worker.runtime)
        bench.monkeypatch.setattr(bootsteps, "settle_memory", lambda: None)
        bench.monkeypatch.setattr(sys, "setswitchinterval", lambda _: None)
        bench.monkeypatch.setattr(signals.worker_shutdown, "receivers", [])
        parent: Any = SimpleNamespace(app=worker.app, hostname="llm@here", steps=[])
        engine_step = bootsteps.EngineStep(parent)
        engine_step.start(parent)
        assert worker.supervisor.ready.wait(PATIENCE_S)
        engine_step._shut_down()


@feeds("sweeper")
def test_sweeper(bench: Bench) -> None:
    """Records that are none, or lack what every record has, beside a lost task."""
    rubbish = ["of another type", "without a queue", "with a time that is none"]
    client = bench.client
    for task_id in rubbish:
        client.zadd(keys.live_key("llm"), {task_id: 1})
    client.zadd(keys.live_key("llm"), {b"\xff": 1})
    client.set(keys.record_key(rubbish[0]), "no record")
    client.hset(keys.record_key(rubbish[1]), mapping={"state": "queued", "kind": b"\xff"})
    client.hset(
        keys.record_key(rubbish[2]),
        mapping={"state": "running", "queue": "llm", "kind": "llm.completion", "enqueued_ms": "never"},
    )
    settings = changed(bench.broker.settings, lease_s=0.02)
    lost = accepted(bench.records)
    client.delete("llm")
    sweeper = Sweeper(client, settings, bench.app)

    def sweep() -> int:
        client.delete(*LOCKS.values())
        return sweeper.sweep()

    eventually(sweep)
    (message,) = client.lrange("llm", 0, -1)
    assert json.loads(message)["headers"]["id"] == lost
    assert client.zrange(keys.live_key("llm"), 0, -1) == [lost.encode()]
    assert {item.where for item in Quarantine(client).items()} == {"sweeper"}


@feeds("web disconnects")
def test_web_disconnects(bench: Bench) -> None:
    """One abandoned task cannot be cancelled; another one is all the same."""
    now = [1000.0]
    with worker_on(bench.broker, {}) as worker:
        spoiled, good = (worker.claim(channel="graycat:web:gone") for _ in range(2))
        abandoned = AbandonedTasks(worker.runtime, lambda: now[0])
        with worker.runtime.running.track(spoiled) as first, worker.runtime.running.track(good) as call:
            bench.monkeypatch.setattr(worker.records, "cancel", once(ValueError("no state"), lambda: None))
            while call.stopped is None:
                now[0] += 1.0
                assert now[0] < 1020.0
                abandoned.cancel_abandoned()
            assert (first.stopped, call.stopped) == (None, "cancelled")
        abandoned.close()


@feeds("metrics server")
def test_metrics_server(bench: Bench) -> None:
    """A metric that cannot be read, half a request, and something that is none."""
    odd = SimpleNamespace(collect=once(ZeroDivisionError("a value"), list))
    server = MetricsServer(join_collectors(odd), "127.0.0.1", 0)
    server.start()
    url = f"http://127.0.0.1:{server.port}/metrics"
    assert requests.get(url, timeout=PATIENCE_S).status_code == 500
    assert requests.get(url, timeout=PATIENCE_S).status_code == 200
    for rubbish in (b"", b"GET /met", b"\xff\xfe\r\n\r\n", b"GET\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as scraper:
            scraper.sendall(rubbish)
    assert requests.get(url, timeout=PATIENCE_S).status_code == 200
    server.stop()


@feeds("render watcher")
def test_render_watcher(bench: Bench) -> None:
    """A report of progress that raises: an interrupt is sent all the same."""
    interrupted = threading.Event()

    def interrupt() -> bool:
        interrupted.set()
        return True

    render: Any = SimpleNamespace(interrupt=interrupt)
    progress: Any = SimpleNamespace(INTERVAL_S=0.01, report=once(KeyError("progress"), lambda: None))
    call = RenderCall()
    before = count("render watcher")
    with RenderWatcher(render, call, progress, 60.0, lambda: None):
        eventually(lambda: count("render watcher") > before)
        call.stop(StopReason.CANCELLED)
        assert interrupted.wait(PATIENCE_S)
