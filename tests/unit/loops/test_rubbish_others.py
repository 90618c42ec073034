"""The loops of what runs beside workers are given rubbish, and then serve the next good item."""

from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery.app.events import Events

from graycat.broker import keys
from graycat.fleet.catalogs import Catalogs
from graycat.fleet.processes import ProcessReports, ProcessStatus
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import WorkerRegistry
from graycat.flower import app as flower
from graycat.supervision import reporter
from graycat.supervision.output import OutputPrinter
from graycat.supervision.reporter import ProcessReporter
from tests.support.helpers import changed, eventually
from tests.support.loop_cases import Bench, count, feeds


@feeds("catalogs")
def test_catalogs(bench: Bench) -> None:
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


@feeds("process reporter")
def test_process_reporter(bench: Bench) -> None:
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
def test_output(bench: Bench) -> None:
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
def test_flower_events(bench: Bench) -> None:
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
