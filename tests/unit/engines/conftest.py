"""Fixtures of the engines' tests: a scripted server, and a client of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from graycat.engines.http import EngineClient
from tests.unit.servers import Answer, Seen, http_server, reply

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
