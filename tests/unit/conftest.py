"""Fixtures of the unit tests: one Valkey for all, emptied for each."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from graycat.queue.models import Attempt
from graycat.queue.records import TaskRecords
from graycat.settings import Settings, variable
from graycat.web import create_app
from graycat.web.services import services_of
from graycat.web.streaming.hub import EventHub
from graycat.web.streaming.token_watch import TokenWatch
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, claimed, eventually
from tests.support.live import LiveServer, serving
from tests.support.servers import broker_that_says

#: Applications live as long as their hubs' threads, which nobody ends: collected before, they would leave open
#: connections to the broker behind, and pytest complains of those.
KEPT: list[Flask] = []


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """Have each test begin with the umask of most machines: whatever graycat keeps private, it does by itself."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """Return the Valkey that all tests share."""
    server = Valkey(tmp_path_factory.mktemp("shared"))
    server.start()
    yield server
    # Hubs listen for as long as their process lives; what they say of the end is of no interest.
    logging.getLogger("graycat.web.streaming.hub").disabled = True
    server.stop()


@pytest.fixture(autouse=True)
def end_loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End the loops of applications that a test has made: otherwise they would ask its broker until the last test."""
    hubs: list[EventHub] = []
    watches: list[TokenWatch] = []
    start_hub, start_watch = EventHub.start, TokenWatch.start

    def start_hub_and_note(hub: EventHub) -> None:
        hubs.append(hub)
        start_hub(hub)

    def start_watch_and_note(watch: TokenWatch) -> None:
        watches.append(watch)
        start_watch(watch)

    monkeypatch.setattr(EventHub, "start", start_hub_and_note)
    monkeypatch.setattr(TokenWatch, "start", start_watch_and_note)
    yield
    for watch in watches:
        watch.loop.request_stop()
    for hub in hubs:
        hub.stop()


@pytest.fixture
def broker(valkey: Valkey) -> Valkey:
    """Return the shared Valkey, empty."""
    # Tests do not close each response, as a web server does. The hub would note the tasks of those as lost, some time
    # later, in the broker of another test.
    for app in KEPT:
        hub = services_of(app).gateway.hub
        for subscription in hub.subscriptions():
            hub.unsubscribe(subscription)
    valkey.client.flushall()
    return valkey


@pytest.fixture
def mortal_broker(tmp_path: Path) -> Iterator[Valkey]:
    """Return a Valkey that a test may kill."""
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def no_broker(tmp_path: Path) -> Settings:
    """Return settings whose broker is down."""
    return Settings(home=tmp_path, api_tokens="tests:a-secret-of-the-tests")


@pytest.fixture
def scripted_broker(no_broker: Settings) -> Iterator[Callable[..., Settings]]:
    """Return how to start a broker that gives the replies it is told; its settings."""
    with ExitStack() as running:

        def start(*replies: bytes) -> Settings:
            no_broker.broker_socket.parent.mkdir(parents=True, exist_ok=True)
            running.enter_context(broker_that_says(no_broker.broker_socket, list(replies)))
            return no_broker

        yield start


@pytest.fixture
def client(broker: Valkey) -> BrokerClient:
    return broker.client


@pytest.fixture
def settings(broker: Valkey) -> Settings:
    return broker.settings


@pytest.fixture
def records(broker: Valkey) -> TaskRecords:
    return TaskRecords(broker.client, broker.settings)


@pytest.fixture
def take(broker: Valkey, records: TaskRecords) -> Callable[..., Attempt]:
    """Return how to take the next task of a queue, as a worker would."""

    def take_next(queue: str = "llm") -> Attempt:
        message: Any = eventually(lambda: broker.client.rpop(queue))
        return claimed(records, json.loads(message)["headers"]["id"])

    return take_next


@pytest.fixture(scope="session")
def shared_app(valkey: Valkey) -> Flask:
    """Return the web application that all tests share."""
    KEPT.append(create_app(valkey.settings))
    return KEPT[-1]


@pytest.fixture(scope="session")
def live_server(shared_app: Flask) -> Iterator[LiveServer]:
    """Yield the shared application behind a real socket."""
    with serving(shared_app) as server:
        yield server


@pytest.fixture
def live(broker: Valkey, live_server: LiveServer) -> LiveServer:
    """Return the server that all tests share, which cuts no connection yet."""
    live_server.forget()
    return live_server


@pytest.fixture(scope="session")
def bare_environment() -> dict[str, str]:
    """Return the environment for a process of ours, with every setting at its default and no .env file asked."""
    return dict(os.environ) | {variable(field.name): "" for field in fields(Settings)}
