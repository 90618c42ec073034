from __future__ import annotations

import json

import pytest

from graycat.engines.client import Call
from graycat.queue import kinds
from graycat.queue.kinds import GATHER, STREAM, Kind
from graycat.queue.models import Attempt
from graycat.tasks.llm_progress import LONG_BODY_BYTES, ask_for_progress
from tests.support.helpers import Valkey, chunks, sse
from tests.support.servers import stream
from tests.support.workers import worker_on

LONG = "word " * (LONG_BODY_BYTES // 5)


def attempt_at(kind: Kind, body: bytes, mode: str = STREAM) -> Attempt:
    """Return an attempt with this body."""
    return Attempt("id", 1, kind.name, mode, body, 60.0, "", False, "0-1", "owner")


@pytest.mark.parametrize("kind", [kinds.COMPLETION, kinds.INFILL, kinds.OPENAI_COMPLETION, kinds.CHAT])
@pytest.mark.parametrize("mode", [STREAM, GATHER])
def test_an_engine_is_asked_how_far_a_long_prompt_is(kind: Kind, mode: str) -> None:
    body = b'{"prompt": "%b" , "tfs_z":1.0}' % LONG.encode()
    sent = ask_for_progress(attempt_at(kind, body, mode))
    assert json.loads(sent) == json.loads(body) | {"return_progress": True}
    assert sent.endswith(body[1:])


def test_only_a_gathered_response_can_do_without_the_events_that_change() -> None:
    body = json.dumps({"input": LONG}).encode()
    assert json.loads(ask_for_progress(attempt_at(kinds.RESPONSES, body, GATHER)))["return_progress"] is True
    assert ask_for_progress(attempt_at(kinds.RESPONSES, body)) is body


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (kinds.COMPLETION, b'{"prompt": "short"}'),
        (kinds.MESSAGES, b'{"system": "%b"}' % LONG.encode()),
        (kinds.EMBEDDINGS, b'{"content": "%b"}' % LONG.encode()),
        (kinds.COMPLETION, b'{"prompt": "%b", "return_progress": false}' % LONG.encode()),
        (kinds.COMPLETION, b'{"prompt": "%b", "return_progress": true}' % LONG.encode()),
        (kinds.COMPLETION, b'["%b"]' % LONG.encode()),
    ],
)
@pytest.mark.parametrize("mode", [STREAM, GATHER])
def test_other_bodies_stay_the_same_object(kind: Kind, body: bytes, mode: str) -> None:
    assert ask_for_progress(attempt_at(kind, body, mode)) is body


def test_a_stream_with_a_long_prompt_is_published_without_progress(broker: Valkey) -> None:
    progress = b'data: {"content":"","stop":false,"prompt_progress":{"total":300,"processed":0}}\n\n'
    events = sse("Hel", "lo", "")
    with worker_on(broker, {"POST /completion": stream(progress, *events)}) as worker:
        attempt = worker.claim(body=json.dumps({"prompt": LONG, "stream": True}).encode())
        assert worker.task().perform(worker.runtime, attempt, Call()) == (200, b"")
        assert worker.seen.bodies()[-1] == {"return_progress": True, "prompt": LONG, "stream": True}
        assert chunks(worker.records, attempt.task_id) == events
