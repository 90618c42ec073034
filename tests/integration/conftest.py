"""pytest-celery's fixtures, over processes of a stack in place of containers.

A module that has a stack of its own overrides ``celery_stack`` with it; the nodes are then processes of that stack.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import Celery
from kombu import pools
from pytest_celery import CeleryTestSetup, CeleryTestWorker, RedisTestBroker

from graycat.celeryapp import create_celery
from graycat.settings import Settings
from tests.support.celery_nodes import GraycatSetup, ProcessContainer
from tests.support.stack import Stack
from tests.support.supervised import Supervised


@pytest.fixture(scope="module")
def celery_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield a stack whose text engine is a double; only its nodes start processes."""
    stack = Supervised(tmp_path_factory.mktemp("celery") / "home", "--interval 0.02")
    try:
        yield stack
        stack.stop()
    finally:
        stack.kill_all()


@pytest.fixture(scope="module")
def celery_broker(celery_stack: Stack) -> RedisTestBroker:
    """Return the broker, which runs."""
    node = RedisTestBroker(ProcessContainer(celery_stack, "broker"))
    node.container.start()
    return node


@pytest.fixture(scope="module")
def celery_worker(celery_stack: Stack, celery_broker: RedisTestBroker) -> CeleryTestWorker:
    """Return the text worker, which takes tasks."""
    node = CeleryTestWorker(ProcessContainer(celery_stack, "llm"), app=None)
    node.container.start()
    return node


@pytest.fixture(scope="module")
def celery_backend_cluster() -> None:
    """Return no node: graycat has no result backend."""


@pytest.fixture
def celery_setup_app(celery_stack: Stack) -> Iterator[Celery]:
    """Yield graycat's Celery application, with the settings of the workers; its connections are a test's own."""
    app = create_celery(Settings.from_env(celery_stack.env))
    yield app
    # kombu keeps connections by their address, beyond an application's end; a broker waits for its clients to leave.
    pools.reset()
    app.close()


@pytest.fixture(scope="module")
def celery_setup_cls() -> type[CeleryTestSetup]:
    """Return the class of setups."""
    return GraycatSetup
