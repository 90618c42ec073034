"""Fixtures of the integration tests: running stacks, which share one copy of the model."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from xdist.scheduler import LoadScopeScheduling

from graycat.engines.embedded import NICENESS
from graycat.engines.models.packaged import find_smollm2
from graycat.gctuning import without_collections
from tests.support.browser import Window, chromium
from tests.support.coverage_scope import CoverageScope
from tests.support.images import ImageStack
from tests.support.stack import REQUEST_S, Client, Stack, running

NewHome = Callable[..., Path]
NewStack = Callable[..., Stack]


#: Integration tests that share what takes long to start, by the fixture that starts it: one process has them all.
SHARING = {
    "stack": frozenset(
        f"tests/integration/test_{name}.py"
        for name in (
            *("completion", "differences", "errors", "hangups", "openai_client", "openapi_examples", "openapi_fuzz"),
            *("page", "readme", "streams", "unity_calls", "unity_example", "up", "engine_routes"),
            *("cookbooks", "text_client_shapes"),
        )
    ),
    "studio": frozenset(
        f"tests/integration/test_{name}.py"
        for name in (
            *("client_shapes", "gallery", "image_clients", "image_errors", "image_sharing", "openapi_image_examples"),
            *("unity_images", "webuiapi"),
        )
    ),
}


#: Unit tests that take half a minute: none of them may begin when all others have ended.
LONG = frozenset(
    f"tests/unit/{name}.py"
    for name in (
        *("cli/test_beat", "docker/test_compose", "engines/models/test_downloads_processes"),
        *("web/openapi/test_schedule_fuzz", "web/streaming/test_disconnect", "web/test_broker_in_trouble"),
        "web/test_refused_requests",
    )
)

#: The niceness of this process's session (Linux, if it schedules by session).
AUTOGROUP = Path("/proc/self/autogroup")


def group_of(node_id: str) -> str:
    """Return what a test shares a process with: all that share a stack with it, otherwise its file."""
    path = node_id.partition("::")[0]
    for shared, paths in SHARING.items():
        if path in paths:
            return shared
    return path


def place_of(item: pytest.Item) -> int:
    """Return what to order tests by: those of the shared stack take longest, then all that start processes."""
    group = group_of(item.nodeid)
    if group == "stack":
        return 0
    if not group.startswith("tests/unit/"):
        return 1
    return 2 if group in LONG else 3


def shared_by(item: pytest.Item) -> list[str]:
    """Return what a test shares with other files."""
    fixtures = getattr(item, "_fixtureinfo", None)
    if fixtures is None:
        return []
    used = fixtures.name2fixturedefs
    return [name for name in SHARING if name in used and used[name][-1].scope == "session"]


def as_nice_as_engines() -> Callable[[], None]:
    """Have this session's processes share the processor evenly with engines; return a function that undoes it.

    An engine has a session of its own, and niceness 10. Where Linux schedules by session (autogroup), it would get a
    tenth of a core beside tests that keep both cores busy, and would load its model for minutes. What descends from the
    system's first process without a session of its own, as in some containers, is in no such group: it starts one.
    """
    try:
        if not AUTOGROUP.read_text():
            os.setsid()
        before = AUTOGROUP.read_text().rpartition(" ")[2]
        AUTOGROUP.write_text(str(NICENESS))
    except OSError:
        return lambda: None

    def undo() -> None:
        with suppress(OSError):
            AUTOGROUP.write_text(before)

    return undo


class ByGroup(LoadScopeScheduling):
    """Gives each group of tests to one process."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of these tests."""
    parser.addoption("--page-pictures", action="store_true", help="make the pictures of docs/page.md anew")


def pytest_configure(config: pytest.Config) -> None:
    """Give the tests as little of the processor as the embedded engine, until they end; and an engine one core.

    With a thread on each core it would wait, at each step, for the tests beside it: with one it is four times as fast.
    """
    Stack.engine_threads = 1
    is_worker = hasattr(config, "workerinput")
    if not is_worker:
        config.add_cleanup(as_nice_as_engines())
    config.pluginmanager.register(CoverageScope(runs_tests=is_worker or not config.getoption("numprocesses", None)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByGroup:
    """Have the processes share the tests by their groups."""
    return ByGroup(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while tests are found, and leave them alone afterwards: they live as long as the process.

    A fifth of the time in which a process finds all tests goes into looking for garbage; and each full collection later
    on, as at the end of a stack, would walk through all of them again.
    """
    with without_collections():
        found = yield
    gc.freeze()
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that all processes end at the same time."""
    items.sort(key=place_of)
    for item in items:
        shared = shared_by(item)
        assert not shared or group_of(item.nodeid) in SHARING, f"{item.nodeid} uses {shared}: add its file to SHARING"


@pytest.fixture(scope="session")
def model() -> Path:
    """Return the file of the small chat model, which a package carries."""
    found = find_smollm2()
    assert found, "make .venv/.ready-dev installs the model that tests talk to"
    return found


@pytest.fixture(scope="session")
def new_home(model: Path, tmp_path_factory: pytest.TempPathFactory) -> NewHome:
    """Return a function that makes a home, the model in its place."""

    def make(name: str = "home") -> Path:
        home = tmp_path_factory.mktemp("stack") / name
        folder = home / "models" / "text"
        folder.mkdir(parents=True)
        (folder / model.name).symlink_to(model)
        return home

    return make


@pytest.fixture(scope="session")
def stack(new_home: NewHome) -> Iterator[Stack]:
    """Yield a stack for tests that do it no harm; at the end it stops without a trace.

    However busy the machine is, the status of a stream is the engine's own: a stream that waits for longer than
    GRAYCAT_KEEPALIVE_S has status 200, and a late error is an event.
    """
    with running(Stack(new_home(), env={"GRAYCAT_KEEPALIVE_S": f"{REQUEST_S:g}"})) as started:
        yield started


@pytest.fixture(scope="module")
def embedding(new_home: NewHome) -> Iterator[Stack]:
    """Yield a stack whose engine serves embeddings."""
    with running(Stack(new_home(), env={"GRAYCAT_LLM_EMBEDDINGS": "true", "GRAYCAT_LLM_SLOTS": "2"})) as started:
        yield started


@pytest.fixture(scope="module")
def frail(new_home: NewHome) -> Iterator[Stack]:
    """Yield a stack for tests that kill its engine; it logs all it can, and its streams are never silent for long."""
    with running(Stack(new_home(), env={"GRAYCAT_KEEPALIVE_S": "0.5", "GRAYCAT_LOG_LEVEL": "DEBUG"})) as started:
        yield started


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageStack]:
    """Yield a stack that serves images, for tests that do it no harm."""
    with running(ImageStack(tmp_path_factory.mktemp("studio"))) as started:
        yield started


@pytest.fixture
def own_stack(new_home: NewHome) -> Iterator[NewStack]:
    """Yield a function that starts a stack for one test; the options are those of Stack."""
    with ExitStack() as started:

        def start(**options: Any) -> Stack:
            return started.enter_context(running(Stack(new_home(), **options)))

        yield start


@pytest.fixture(scope="session")
def api(stack: Stack) -> Client:
    """Return a client of the shared stack, with its API token."""
    return stack.client()


@pytest.fixture(scope="session")
def engine(stack: Stack) -> Client:
    """Return a client of the shared stack's bare engine."""
    return stack.engine()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Yield a browser for the tests of a module."""
    with chromium() as started:
        yield started


@pytest.fixture
def new_window(browser: Browser) -> Iterator[Callable[..., Window]]:
    """Yield a function that opens a window for one test; the options are those of Window."""
    with ExitStack() as opened:

        def open_one(**options: Any) -> Window:
            window = Window(browser, **options)
            opened.callback(window.close)
            return window

        yield open_one
