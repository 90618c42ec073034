"""While the broker is full, what runs ends whole, who comes anew is told so, and all goes on when there is room."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.processes import eventually
from tests.support.stack import REQUEST_S
from tests.support.supervised import Supervised, supervised

MIB = 1024 * 1024
#: At a tenth of a second a token, long enough for the broker to fill up meanwhile.
TOKENS = 30
BODY = {"prompt": "hello", "n_predict": TOKENS}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    """Yield a broker, a web server and a worker, whose processes nobody restarts."""
    with supervised(tmp_path_factory.mktemp("full"), "--interval 0.1") as started:
        yield started


@pytest.fixture
def fill(stack: Supervised) -> Iterator[Callable[[float], None]]:
    """Return how to fill the broker to a share of its memory; it has room again behind the test."""
    broker = stack.redis()

    def fill_up(share: float) -> None:
        # More than what comes and goes meanwhile.
        # Made there: what the broker took in would count as memory, too, for a moment.
        broker.setrange("filler", 32 * MIB, b"x")
        broker.config_set("maxmemory", int(broker.info("memory")["used_memory"] / share))

    yield fill_up
    broker.config_set("maxmemory", 0)
    broker.delete("filler")


def read_stream(stack: Supervised, after_two: Callable[[], None]) -> list[dict[str, Any]]:
    """Return the chunks of a stream; call ``after_two`` when two of them are here."""
    chunks = []
    with stack.client().post("/completion", BODY | {"stream": True}, stream=True, timeout=REQUEST_S) as reply:
        for line in reply.iter_lines():
            if line.startswith(b"data: "):
                chunks.append(json.loads(line.removeprefix(b"data: ")))
                if len(chunks) == 2:
                    after_two()
    return chunks


@pytest.mark.parametrize("share", [0.9, 1.1])
def test_a_full_broker(stack: Supervised, fill: Callable[[float], None], share: float) -> None:
    before = stack.processes()

    def fill_and_ask() -> None:
        fill(share)
        # It is looked at once a second.
        eventually(lambda: stack.client().post("/completion", {"prompt": "x", "n_predict": 1}).status_code == 503, 5)
        refused = stack.client().post("/tasks", {"kind": "llm.completion", "input": BODY})
        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "broker_full")
        assert refused.headers["Retry-After"] == "5"

    chunks = read_stream(stack, fill_and_ask)
    assert len(chunks) == TOKENS + 1
    assert chunks[-1]["stop"] is True
    stack.redis().config_set("maxmemory", 0)
    eventually(lambda: stack.client().post("/completion", {"prompt": "x", "n_predict": 1}).status_code == 200, 20)
    assert stack.processes() == before
