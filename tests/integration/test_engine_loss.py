"""The engine is killed: streams end definitely, requests wait for the restart, and nothing shows a green light."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from tests.support.processes import eventually
from tests.support.stack import Client, Stack
from tests.support.unity import Answer, ErrorAnswer, ReadBuffer, V2Reader, V3Reader, read_head, read_pieces, send_post

#: Seconds until a killed engine is back: a back-off that doubles, and the model's load.
BACK_S = 180.0
COUNT: dict[str, Any] = {"prompt": "1, 2, 3, 4,", "n_predict": 6, "temperature": 0, "seed": 1}
#: Not to be continued: what of a stop word had come the next engine would not know.
LONG: dict[str, Any] = {"prompt": "1, 2, 3,", "n_predict": 400, "ignore_eos": True, "stream": True, "stop": ["~~~"]}
TO_GO_ON = {name: value for name, value in LONG.items() if name != "stop"} | {"n_predict": 60, "temperature": 0}


@pytest.fixture
def kill_engine(frail: Stack) -> Iterator[Callable[[], None]]:
    """Yield a function that kills the engine; behind the test, wait until all is well again."""

    killed = []

    def kill() -> None:
        killed.append(frail.engine_pid())
        assert killed[-1] is not None
        os.kill(killed[-1], signal.SIGKILL)

    yield kill
    # Reports are a second old, so look for the new engine first.
    eventually(lambda: frail.engine_pid() not in (None, *killed), BACK_S)
    eventually(lambda: loaded(frail) and frail.ready() and alive(frail), BACK_S)


def loaded(stack: Stack) -> bool:
    """Return whether the engine has its model."""
    try:
        return stack.engine().get("/health").ok
    except requests.ConnectionError:
        return False


def alive(stack: Stack) -> bool:
    """Return whether a Unity client would think so."""
    client = Client(stack.url, stack.token)
    with client.session:
        return client.post("/health").ok


@contextmanager
def broken_model(stack: Stack) -> Iterator[None]:
    """Keep the engine from coming back: its model cannot be loaded while the block runs."""
    (model,) = (stack.home / "models" / "text").glob("*.gguf")
    good = model.rename(model.with_suffix(".away"))
    try:
        model.write_bytes(b"no model")
        yield
    finally:
        good.replace(model)


def cut_off(stack: Stack) -> list[tuple[int, bytes]]:
    """Return the pieces of a stream to its end. Raises BrokenAnswer where HTTP's last chunk is missing."""
    with send_post(stack.url, "/completion", LONG, stack.token) as connection:
        buffer = ReadBuffer(connection, 4096)
        status, headers = read_head(buffer)
        assert status == 200
        return list(read_pieces(buffer, headers))


def play(stack: Stack, reader: V3Reader | V2Reader) -> ErrorAnswer:
    """Return the error in which a game's stream ends."""
    with send_post(stack.url, "/completion", LONG, stack.token) as connection:
        with pytest.raises(ErrorAnswer) as caught:
            reader.read(connection)
        return caught.value


def test_streams_under_way_go_on_with_the_next_engine(frail: Stack, kill_engine: Callable[[], None]) -> None:
    with ThreadPoolExecutor(3) as games:
        read = [games.submit(played, frail, reader) for reader in (V3Reader(), V2Reader(), V3Reader())]
        eventually(lambda: sum("first_event_ms" in record for record in frail.live()) == 3, BACK_S)
        kill_engine()
        answers = [answer.result(BACK_S) for answer in read]
    # Sixty tokens in all, and none twice: the beginning is what an engine that lives says.
    expected = frail.engine().post("/completion", TO_GO_ON | {"stream": False, "n_predict": 8}).json()["content"]
    for answer in answers:
        assert answer.content.startswith(expected)
        assert len(answer.tokens) == answer.events[-1]["tokens_predicted"] == 60


def played(stack: Stack, reader: V3Reader | V2Reader) -> Answer:
    """Return what a game reads of a stream."""
    with send_post(stack.url, "/completion", TO_GO_ON, stack.token) as connection:
        return reader.read(connection)


def test_streams_that_cannot_go_on_end_in_an_error_event(frail: Stack, kill_engine: Callable[[], None]) -> None:
    with ThreadPoolExecutor(3) as games:
        raw = games.submit(cut_off, frail)
        read = [games.submit(play, frail, reader) for reader in (V3Reader(), V2Reader())]
        eventually(lambda: sum("first_event_ms" in record for record in frail.live()) == 3, BACK_S)
        kill_engine()
        pieces, errors = raw.result(BACK_S), [answer.result(BACK_S) for answer in read]
    for error in (answer.body["error"] for answer in errors):
        assert set(error) == {"code", "message", "type"}
        assert (error["code"], error["type"]) == (502, "engine_lost")
    # One event a chunk, to the last.
    assert [number for number, _ in pieces] == list(range(len(pieces)))
    assert pieces[-1][1].startswith(b'data: {"error"')
    assert pieces[-1][1].endswith(b"}\n\n")


def test_whole_answers_under_way_are_given_by_the_next_engine(frail: Stack, kill_engine: Callable[[], None]) -> None:
    body = COUNT | {"n_predict": 40}
    with ThreadPoolExecutor(2) as callers:
        answers = [callers.submit(frail.client().post, "/completion", body) for _ in range(2)]
        eventually(lambda: frail.busy() == 2, BACK_S)
        kill_engine()
        given = [answer.result(BACK_S) for answer in answers]
    expected = frail.engine().post("/completion", body).json()["content"]
    assert [(answer.status_code, answer.json()["content"]) for answer in given] == [(200, expected)] * 2


def test_an_outage_shows_and_what_was_sent_in_it_is_answered(frail: Stack, kill_engine: Callable[[], None]) -> None:
    expected = frail.client().post("/completion", COUNT).json()["content"]
    # What a game has asked before is known during the outage.
    assert frail.client().post("/props").status_code == 200
    with ThreadPoolExecutor(3) as callers:
        with broken_model(frail):
            kill_engine()
            eventually(lambda: not frail.ready(), BACK_S)
            eventually(lambda: not alive(frail), BACK_S)
            whole = callers.submit(frail.client().post, "/completion", COUNT)
            quick = callers.submit(frail.client().post, "/tokenize", {"content": "Hi"})
            streamed = callers.submit(ask, frail, COUNT)
            assert_outage(frail)
            eventually(lambda: len(frail.live()) == 3, BACK_S)
        whole_answer, quick_answer = whole.result(BACK_S).json(), quick.result(BACK_S).json()
        answer = streamed.result(BACK_S)
    assert whole_answer.get("content") == expected, whole_answer
    assert quick_answer.get("tokens"), quick_answer
    assert (answer.content, answer.keepalives > 0) == (expected, True)


def ask(stack: Stack, body: dict[str, Any]) -> Answer:
    """Return what a v3 game gets."""
    with send_post(stack.url, "/completion", body | {"stream": True}, stack.token) as connection:
        return V3Reader().read(connection)


def assert_outage(stack: Stack) -> None:
    """Check that /ready says so, and that games go on with the last known answer while the engine is restarted."""
    client = stack.client()
    ready = client.get("/ready")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert "llm" in ready.json()["reason"]
    answer = client.post("/props")
    assert answer.status_code == 200
    assert int(answer.headers["Graycat-Answer-Age"]) >= 0
    assert answer.json()["default_generation_settings"]["n_ctx"] > 0
    assert client.get("/health").status_code == 200
