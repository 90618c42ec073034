"""An engine whose routes are all POST, as undreamai_server's: what a game needs works, what it lacks it says itself."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import NewHome
from tests.support.stack import ROOT, Client, Stack, running
from tests.support.unity import V2Reader, V3Reader, send_post

ENGINE = shlex.join([sys.executable, str(ROOT / "tests" / "fakes" / "llama_server.py"), "--post-only"])


@pytest.fixture(scope="module")
def box(new_home: NewHome) -> Iterator[Stack]:
    """Yield a stack in front of such an engine; it is ready, or this fails."""
    with running(Stack(new_home(), env={"STARTUP_COMMAND": f"{ENGINE} --port {{port}}"})) as started:
        yield started


@pytest.fixture(scope="module")
def game(box: Stack) -> Client:
    """Return a client with an API token."""
    return box.client()


def test_such_an_engine_has_no_get_route_and_graycat_is_ready_all_the_same(box: Stack) -> None:
    assert [box.engine().get(path).status_code for path in ("/health", "/props", "/v1/models")] == [404] * 3
    assert box.ready()


def test_a_game_on_v3_gets_all_that_it_asks_for(game: Client) -> None:
    assert game.request("POST", "/health").json() == {"status": "ok"}
    assert game.post("/props", {"stream": False}).json()["default_generation_settings"]["n_ctx"] == 4096
    assert game.post("/tokenize", {"content": "Hi", "stream": False}).json() == {"tokens": [72, 105]}
    assert game.post("/detokenize", {"tokens": [72, 105], "stream": False}).json() == {"content": "Hi"}
    chat = {"messages": [{"role": "user", "content": "Hi"}], "stream": False}
    assert game.post("/apply-template", chat).json() == {"prompt": "Hi"}


def test_an_older_game_gets_the_template(game: Client) -> None:
    assert game.post("/template", {}).json() == {"template": "chatml"}


def test_others_ask_for_health_and_properties_by_get(game: Client) -> None:
    assert game.get("/health").json() == {"status": "ok"}
    assert game.get("/props").json() == game.post("/props").json()


@pytest.mark.parametrize("reader", [V3Reader(), V2Reader()], ids=["v3", "v2"])
def test_a_stream_arrives_whole(box: Stack, reader: Any) -> None:
    body = {"prompt": "x", "n_predict": 5, "stream": True}
    with send_post(box.url, "/completion", body, box.token) as connection:
        answer = reader.read(connection)
    assert (answer.tokens, answer.events[-1]["tokens_predicted"]) == ([0, 1, 2, 3, 4], 5)


def test_a_whole_answer_arrives(game: Client) -> None:
    answer = game.post("/completion", {"prompt": "x", "n_predict": 3})
    assert (answer.status_code, answer.json()["tokens_predicted"]) == (200, 3)
    assert len(answer.json()["content"].split()) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_is_answered(game: Client, stream: bool) -> None:
    chat = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, "stream": stream}
    answer = game.post("/v1/chat/completions", chat)
    assert (answer.status_code, "[DONE]" in answer.text) == (200, stream)


def test_the_models_are_those_that_the_properties_name(game: Client) -> None:
    assert [model["id"] for model in game.get("/v1/models").json()["data"]] == ["fake"]
    named = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "model": "fake"}
    assert game.post("/v1/chat/completions", named).status_code == 200
    assert game.post("/v1/chat/completions", named | {"model": "other"}).json()["error"]["type"] == "model_not_found"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/slots", None),
        ("GET", "/lora-adapters", None),
        ("POST", "/infill", {"input_prefix": "x", "input_suffix": "y"}),
        ("POST", "/infill", {"input_prefix": "x", "input_suffix": "y", "stream": True}),
        ("POST", "/rerank", {"query": "x", "documents": ["y"]}),
        ("POST", "/v1/responses", {"input": "x"}),
        ("POST", "/v1/messages", {"messages": [], "max_tokens": 1, "stream": True}),
        ("POST", "/v1/messages/count_tokens", {"messages": []}),
    ],
)
def test_what_the_engine_does_not_have_is_its_own_404(
    box: Stack, game: Client, method: str, path: str, body: dict[str, Any] | None
) -> None:
    bare, given = (client.request(method, path, json=body) for client in (box.engine(), game))
    # Anthropic's form has a type of its own beside the error.
    own = {"type": "error"} if path.startswith("/v1/messages") else {}
    assert (given.status_code, given.json()) == (404, own | bare.json())
