"""Each loop that serves many is given rubbish, and then serves the next good item.

The names are those of ``graycat.loops``: one without a case here fails.
"""

from __future__ import annotations

import ast
import io
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from celery import signals
from celery.app.events import Events

from graycat import loops
from graycat.broker import keys
from graycat.broker.quarantine import Quarantine
from graycat.engines import gpus
from graycat.engines.client import StopReason
from graycat.fleet.catalogs import Catalogs
from graycat.fleet.processes import ProcessReports, ProcessStatus
from graycat.fleet.workers import WorkerRegistry, WorkerStatus
from graycat.flower import app as flower
from graycat.metrics.server import MetricsServer, join_collectors
from graycat.queue.records import TaskRecords
from graycat.supervision import reporter
from graycat.supervision.output import OutputPrinter
from graycat.supervision.reporter import ProcessReporter
from graycat.tasks.sd import RenderCall, RenderWatcher
from graycat.unexpected import UNEXPECTED
from graycat.webhooks.deliveries import Deliveries
from graycat.webhooks.dispatcher import Dispatcher
from graycat.webhooks.sender import WebhookSender
from graycat.webhooks.webhook import Webhook
from graycat.worker import bootsteps, control, engine_slots, maintenance
from graycat.worker.control import ControlDuties
from graycat.worker.maintenance import WorkerMaintenance
from graycat.worker.sweeper import LOCKS, Sweeper
from graycat.worker.web_disconnects import AbandonedTasks
from tests.support.helpers import PATIENCE_S, ROOT, Valkey, accepted, changed, eventually, started
from tests.support.workers import celery_app, worker_on

#: Loops whose case stands beside the other tests of their module.
ELSEWHERE = {
    "hub": "unit/web/streaming/test_hub_rubbish.py::test_a_push_that_is_no_event_is_counted_and_the_next_one_comes",
    "stream relay": "unit/worker/test_stream_relay.py::test_an_event_that_cannot_be_edited_ends_only_its_own_stream",
    "publisher": "unit/worker/test_stream_relay.py::test_a_stream_that_another_program_has_replaced_ends_alone",
    "gate": "unit/worker/test_gate.py::test_a_check_that_fails_is_noted_and_the_next_one_counts",
    "queue": "unit/broker/test_transport.py::test_a_message_that_cannot_be_used_is_set_aside_and_the_next_is_delivered",
    "unacknowledged messages": (
        "unit/broker/test_transport.py"
        "::test_a_spoiled_entry_among_the_unacknowledged_is_set_aside_and_the_others_come_back"
    ),
    "unknown kinds": (
        "unit/worker/test_unknown_kinds.py::test_an_error_with_one_message_is_counted_and_the_next_one_is_handled"
    ),
    "wrong keys": "unit/worker/test_wrong_keys.py::test_a_key_of_another_type_is_moved_aside_for_a_week",
    "consumer": "integration/test_rubbish.py::test_a_good_envelope_with_something_else_in_it",
    "remote control": "integration/test_rubbish.py::test_rubbish_on_the_channels_of_celery_s_control",
    "disconnect watcher": "unit/web/streaming/test_disconnect.py::test_a_callback_that_raises_ends_no_other_watch",
    "schedules": "unit/schedules/test_damaged_schedules.py::test_it_keeps_no_other_from_firing",
    "beat": "unit/schedules/test_ticker.py::test_what_the_broker_holds_is_rebuilt_if_it_is_unusable",
    "live batches": (
        "unit/batches/runner/test_damaged_batches.py::test_an_unreadable_batch_is_abandoned_and_the_others_go_on"
    ),
    "batch runner": (
        "unit/batches/runner/test_damaged_batches.py::test_an_unusable_batch_ends_as_failed_and_the_others_go_on"
    ),
    "batch throughput": (
        "unit/batches/runner/test_damaged_batches.py::test_averages_that_are_no_numbers_cost_an_estimate"
    ),
    "batch items": "unit/batches/test_records.py::test_a_damaged_item_keeps_no_other_from_being_shown",
    "batches": "unit/batches/test_records.py::test_a_damaged_batch_keeps_no_other_from_being_listed",
    "snapshot": "unit/web/test_rubbish_in_the_broker.py::test_a_report_of_another_type_hides_no_other",
    "fleet": "unit/web/test_rubbish_in_the_broker.py::test_a_report_of_no_worker_hides_no_other",
    "tasks": "unit/web/test_rubbish_in_the_broker.py::test_a_record_of_another_type_among_the_unfinished",
    "records": "unit/web/test_rubbish_in_the_broker.py::test_a_record_of_another_type_among_the_unfinished",
    "gallery": "unit/batches/runner/test_damaged_batches.py::test_a_gallery_that_cannot_be_written_costs_nothing_else",
    "models": "unit/web/test_rubbish_in_the_broker.py::test_a_list_of_models_that_is_none_hides_no_other",
}


@dataclass
class Bench:
    """What a case needs."""

    broker: Valkey
    monkeypatch: pytest.MonkeyPatch
    tmp_path: Path

    @property
    def client(self) -> Any:
        return self.broker.client

    @property
    def records(self) -> TaskRecords:
        return TaskRecords(self.broker.client, self.broker.settings)

    @property
    def app(self) -> Any:
        return celery_app(self.broker.settings.home)


Case = Callable[[Bench], None]
CASES: dict[str, Case] = {}


def feeds(name: str) -> Callable[[Case], Case]:
    """Register the case of a loop."""

    def register(case: Case) -> Case:
        CASES[name] = case
        return case

    return register


def count(name: str) -> float:
    value: float = UNEXPECTED.labels(name)._value.get()
    return value


def once(error: Exception, then: Callable[[], Any]) -> Callable[..., Any]:
    """Return a function that raises an error at its first call, and later does something else."""
    errors = [error]

    def act(*_: object, **__: object) -> Any:
        if errors:
            raise errors.pop()
        return then()

    return act


@pytest.mark.parametrize("name", sorted(loops.NAMES))
def test_rubbish_is_counted_and_the_next_item_is_served(name: str, request: pytest.FixtureRequest) -> None:
    if name in ELSEWHERE:
        file, _, test = ELSEWHERE[name].partition("::")
        tree = ast.parse((ROOT / "tests" / file).read_text())
        assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        return
    assert name in CASES, f"{name} has no case: feed it rubbish, and see that the next item is served"
    bench = Bench(*map(request.getfixturevalue, ("broker", "monkeypatch", "tmp_path")))
    ended: list[str] = []
    # What a thread's guard says of a loop that has ended. No item may come so far.
    bench.monkeypatch.setattr(loops, "note", lambda ended_name, _: ended.append(ended_name))
    before = count(name)
    CASES[name](bench)
    assert count(name) > before
    assert ended == []
    assert name not in loops.stuck_loops()


def test_a_case_belongs_to_a_loop() -> None:
    assert CASES.keys() | ELSEWHERE.keys() == loops.NAMES
    assert not CASES.keys() & ELSEWHERE.keys()


@feeds("maintenance")
def _(bench: Bench) -> None:
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
def _(bench: Bench) -> None:
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
def _(bench: Bench) -> None:
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
def _(bench: Bench) -> None:
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
def _(bench: Bench) -> None:
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


def control_duties(bench: Bench) -> ControlDuties:
    bench.monkeypatch.chdir(bench.tmp_path)
    bench.monkeypatch.setattr(control, "DISPATCH_INTERVAL_S", 0.01)
    bench.monkeypatch.setattr(control, "STEP_INTERVAL_S", 0.01)
    bench.monkeypatch.setattr(control, "REPORT_INTERVAL_S", 0.02)
    parent: Any = SimpleNamespace(app=bench.app, hostname="control@here", concurrency=1)
    bench.app.amqp.queues.select(["control"])
    return ControlDuties(parent, alone=True)


@feeds("control")
def _(bench: Bench) -> None:
    """A duty that raises: the others are done, and it is done again."""
    duties = control_duties(bench)
    called = threading.Event()
    bench.monkeypatch.setattr(duties._dispatcher, "step", once(UnicodeError("a webhook"), called.set))
    duties.start()
    assert called.wait(PATIENCE_S)
    eventually(lambda: [worker.name for worker in WorkerRegistry(bench.client).workers()] == ["control@here"])
    duties.stop()


@feeds("batch steps")
def _(bench: Bench) -> None:
    duties = control_duties(bench)
    called = threading.Event()
    step = once(KeyError("state"), called.set)
    (duty,) = duties._batch_thread._duties
    duties._batch_thread._duties = [duty._replace(function=step)]
    duties.start()
    assert called.wait(PATIENCE_S)
    duties.stop()


@feeds("sweeper")
def _(bench: Bench) -> None:
    """Records that are none, or lack what every record has, beside a lost task."""
    rubbish = ["of another type", "without a queue", "with a time that is none"]
    client = bench.client
    for task_id in rubbish:
        client.zadd(keys.LIVE_TASKS, {task_id: 1})
    client.zadd(keys.LIVE_TASKS, {b"\xff": 1})
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
    assert client.zrange(keys.LIVE_TASKS, 0, -1) == [lost.encode()]
    assert {item.where for item in Quarantine(client).items()} == {"sweeper"}


@feeds("web disconnects")
def _(bench: Bench) -> None:
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


RUBBISH_DELIVERIES = {
    b"no pair": {},
    b"\xff \xff": {},
    b"a task succeeded": {"webhook": "{half", "owner": "tests"},
    b"b succeeded": {"webhook": "[]", "owner": "tests"},
    b"c succeeded": {"webhook": '{"url": 7, "events": [], "secret": ""}', "owner": "tests"},
}


def add_deliveries(bench: Bench) -> str:
    """Add deliveries that are none, and then a good one; return its member."""
    for member, fields in RUBBISH_DELIVERIES.items():
        bench.client.zadd(keys.DELIVERIES, {member: 1})
        if fields:
            bench.client.hset(keys.delivery_key(*member.decode().rsplit(" ", 1)), mapping=fields)
    bench.client.zadd(keys.DELIVERIES, {"of succeeded": 1})
    bench.client.set(keys.delivery_key("of", "succeeded"), "another type")
    hook = Webhook("https://receiver.example/", ("succeeded",)).to_json()
    attempt = started(bench.records, webhook=hook)
    bench.records.succeed(attempt, 200, b"")
    return f"{attempt.task_id} succeeded"


@feeds("dispatcher")
def _(bench: Bench) -> None:
    bench.client.set(keys.DELIVERIES, "another type")
    deliveries = Deliveries(bench.client)
    dispatcher = Dispatcher(bench.client, deliveries, bench.app)
    assert dispatcher.step(deliveries.now_ms()) == 0
    good = add_deliveries(bench)
    dispatcher.step(deliveries.now_ms())
    ids = [json.loads(message)["headers"]["id"] for message in bench.client.lrange("control", 0, -1)]
    assert good in ids
    assert {item.where for item in Quarantine(bench.client).items()} == {"dispatcher"}


@feeds("webhook sender")
def _(bench: Bench) -> None:
    good = add_deliveries(bench)
    posted: list[str] = []

    def post(target: Any, *_: object) -> int:
        posted.append(target.host)
        return 200

    http: Any = SimpleNamespace(post=post)
    deliveries = Deliveries(bench.client)
    sender = WebhookSender(deliveries, http, bench.broker.settings)
    for member in ("a task succeeded", "b succeeded", "c succeeded", "of succeeded", good):
        task_id, event = member.rsplit(" ", 1)
        sender.deliver(task_id, event)
    assert posted == ["receiver.example"]
    assert deliveries.summarize(good.split(" ")[0])[0]["state"] == "delivered"
    assert {item.where for item in Quarantine(bench.client).items()} == {"webhook sender"}


@feeds("catalogs")
def _(bench: Bench) -> None:
    registry = WorkerRegistry(bench.client)
    spoiled, other, good = (
        WorkerStatus(f"sd@{name}", ("sd",), "webui", "ready", True, 1, 0, "", catalog="v1") for name in "abc"
    )
    for status in (spoiled, other, good):
        registry.report(status, {"samplers": b'[{"name": "Euler"}]', "loras": b"{half", "options": b"7"})
        registry._written_catalog = ""
    bench.client.set(keys.catalog_key("sd@a"), "no catalog")
    bench.client.hset(keys.catalog_key("sd@b"), b"\xff", b"\xff")
    found = Catalogs(registry).load([spoiled, other, good])
    assert found["sd@c"] == found["sd@b"] == {"samplers": [{"name": "Euler"}]}
    assert "sd@a" not in found


@feeds("metrics server")
def _(bench: Bench) -> None:
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


@feeds("process reporter")
def _(bench: Bench) -> None:
    """States that cannot be written, and then some that can."""
    bench.monkeypatch.setattr(reporter, "REPORT_INTERVAL_S", 0.02)
    before = count("process reporter")
    told = ProcessReporter(changed(bench.broker.settings, box="here"))
    rubbish: Any = [7]
    told.update(rubbish)
    eventually(lambda: count("process reporter") > before)
    states = [ProcessStatus("web", "running", 17)]
    told.update(states)
    eventually(lambda: ProcessReports(bench.client).read() == {"here": states})
    told.stop()


@feeds("output")
def _(bench: Bench) -> None:
    """A pipe that cannot be read, and bytes that are no text."""
    target = io.StringIO()
    printer = OutputPrinter(["web"], target)
    listener = socket.socket()
    spoiled: Any = SimpleNamespace(fileno=listener.fileno, close=listener.close)
    printer.add("web", spoiled)
    read, write = os.pipe()
    printer.add("web", os.fdopen(read, "rb", buffering=0))
    os.write(write, b"\xff\xfe\ngood\n")
    eventually(lambda: "| good" in target.getvalue())
    os.close(write)
    eventually(lambda: not printer._rests)


@feeds("flower events")
def _(bench: Bench) -> None:
    """What is no event on Celery's channel of events, and then an event."""

    class Enough(BaseException):
        """Ends the thread's loop."""

    bench.monkeypatch.setattr(flower, "RECONNECT_INTERVAL_S", 0.01)
    heard = threading.Event()
    events = flower.ReconnectingEvents.__new__(flower.ReconnectingEvents)
    events.capp = bench.app
    stop = threading.Event()

    def on_event(event: dict[str, Any]) -> None:
        if event["type"] == "worker-odd":
            raise KeyError("no such field")
        heard.set()

    def pause(_: float) -> None:
        if stop.is_set():
            raise Enough

    def run() -> None:
        with pytest.raises(Enough):
            events.run()

    bench.monkeypatch.setattr(events, "on_event", on_event)
    bench.monkeypatch.setattr(flower, "time", SimpleNamespace(sleep=pause))
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    dispatcher = Events(app=bench.app).Dispatcher(bench.app.connection_for_write(), hostname="llm@here")

    def send_until(name: str, predicate: Callable[[], bool]) -> None:
        def sent() -> bool:
            dispatcher.send(name)
            return predicate()

        eventually(sent)

    before = count("flower events")
    send_until("worker-odd", lambda: count("flower events") > before)
    send_until("worker-online", heard.is_set)
    stop.set()
    send_until("worker-odd", lambda: not thread.is_alive())
    dispatcher.close()


@feeds("render watcher")
def _(bench: Bench) -> None:
    """A report of progress that raises: an interrupt is sent all the same."""
    interrupted = threading.Event()
    engine: Any = SimpleNamespace(post=lambda path: interrupted.set() if path == "interrupt" else None)
    progress: Any = SimpleNamespace(INTERVAL_S=0.01, report=once(KeyError("progress"), lambda: None))
    render = RenderCall()
    before = count("render watcher")
    with RenderWatcher(engine, render, progress, 60.0, lambda: None):
        eventually(lambda: count("render watcher") > before)
        render.stop(StopReason.CANCELLED)
        assert interrupted.wait(PATIENCE_S)
