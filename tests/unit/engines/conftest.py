"""Fixtures of the engines' tests: a scripted server, and a client of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from graycat.engines.client import EngineClient
from graycat.engines.models import downloads
from tests.support.download_setup import DownloadSetup
from tests.support.servers import Answer, Seen, http_server, reply

LAST = reply(200, {"the": "end"})


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[EngineClient, Seen]]]:
    """Return how to start a server with some answers, and a client of it; both are closed at the end."""
    running = []

    def start(**answers: Answer) -> tuple[EngineClient, Seen]:
        routes = {f"{method} /{path}": answer for path, answer in answers.items() for method in ("GET", "POST")}
        server = http_server({"GET /last": LAST, **routes})
        seen = server.__enter__()
        client = EngineClient(seen.url)
        running.append((server, client))
        return client, seen

    yield start
    for server, client in running:
        # Its answer closes the connection that a test has left open.
        with client.open("GET", "/last") as response:
            response.read()
        server.__exit__(None, None, None)


@pytest.fixture
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have downloads that break go on at once."""
    monkeypatch.setattr(downloads, "FIRST_BACKOFF_S", 0.005)


@pytest.fixture
def set_up_download(tmp_path: Path, in_a_hurry: None) -> Iterator[Callable[..., DownloadSetup]]:
    """Return how to start a server with some answers; the first one is /m.gguf's."""
    with ExitStack() as running:

        def start(answer: Answer, **others: Answer) -> DownloadSetup:
            answers = {"GET /m.gguf": answer, **{f"GET /{name}": other for name, other in others.items()}}
            return DownloadSetup(tmp_path, running.enter_context(http_server(answers)))

        yield start
