"""The calls of a Unity v3 client beside /completion, all of them POST, and the same calls as others make them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

from graycat.redaction.answers import hide
from tests.support.processes import SLACK_S, eventually, quickly
from tests.support.stack import Client, Stack
from tests.support.unity import V2Reader, send_post

#: Seconds that a quick call may take while every slot is busy; through the slots' queue it would take many.
QUICK_S = 1.5

MAX_QUICK_CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "tokenize": ("/tokenize", {"content": "naïve 🦊 data: 1", "stream": False}),
    "tokenize with pieces": ("/tokenize", {"content": "naïve", "with_pieces": True, "add_special": True}),
    "tokenize nothing": ("/tokenize", {"stream": False}),
    "detokenize": ("/detokenize", {"tokens": [504, 22881, 9301], "stream": False}),
    "detokenize nothing": ("/detokenize", {"tokens": [], "stream": False}),
    "a template": (
        "/apply-template",
        {"messages": [{"role": "system", "content": "ü"}, {"role": "user", "content": "Hi"}], "stream": False},
    ),
    "a template without messages": ("/apply-template", {"stream": False}),
}


#: All fields that v2.5.2 sends; its JSON writes a list that is null as an empty one, and a text that is null as "".
V2_CHAT: dict[str, Any] = {
    "prompt": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "id_slot": -1,
    "temperature": 0.20000000298023224,
    "top_k": 40,
    "top_p": 0.8999999761581421,
    "min_p": 0.05000000074505806,
    "n_predict": 4,
    "n_keep": 9,
    "stream": True,
    "stop": ["<|im_end|>"],
    "tfs_z": 0.0,
    "typical_p": 1.0,
    "repeat_penalty": 1.100000023841858,
    "repeat_last_n": 64,
    "penalize_nl": True,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "penalty_prompt": "",
    "mirostat": 0,
    "mirostat_tau": 5.0,
    "mirostat_eta": 0.10000000149011612,
    "seed": 0,
    "ignore_eos": True,
    "n_probs": 0,
    "cache_prompt": True,
    "messages": [],
}


@pytest.mark.parametrize("name", MAX_QUICK_CALLS)
def test_a_quick_call_is_answered_as_by_the_bare_engine(api: Client, engine: Client, name: str) -> None:
    path, body = MAX_QUICK_CALLS[name]
    given, expected = api.post(path, body), engine.post(path, body)
    assert (given.status_code, given.content) == (expected.status_code, expected.content)
    assert given.headers["Content-Type"] == expected.headers["Content-Type"]


def test_a_chat_of_v2_is_a_template_s_name_tokens_and_a_completion(stack: Stack, api: Client) -> None:
    assert api.post("/template", {}).json() == {"template": "chatml"}
    assert len(api.post("/tokenize", {"content": V2_CHAT["prompt"]}).json()["tokens"]) > 1
    with send_post(stack.url, "/completion", V2_CHAT, stack.token) as connection:
        answer = V2Reader().read(connection)
    assert answer.events[-1]["tokens_predicted"] == 4


def test_text_survives_tokenize_and_detokenize(api: Client) -> None:
    tokens = api.post("/tokenize", {"content": "naïve 🦊 日本語", "stream": False}).json()["tokens"]
    assert all(isinstance(token, int) for token in tokens)
    assert api.post("/detokenize", {"tokens": tokens, "stream": False}).json() == {"content": "naïve 🦊 日本語"}


def shown_props(engine: Client) -> dict[str, Any]:
    """Return the bare engine's properties as callers see them."""
    props: dict[str, Any] = hide("/props", engine.get("/props").json())
    # What its page in a browser begins with is nobody's business here.
    del props["ui_settings"]
    return props


def test_unity_learns_the_context_by_post(api: Client, engine: Client) -> None:
    expected = shown_props(engine)
    # `null` to which the client adds its "stream".
    for answer in (api.get("/props"), api.post("/props", {"stream": False}), api.post("/props")):
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json; charset=utf-8")
        assert answer.json() == expected
    assert expected["default_generation_settings"]["n_ctx"] == 8192


def test_a_props_body_changes_nothing(api: Client, engine: Client) -> None:
    before = engine.get("/props").json()
    assert api.post("/props", {"chat_template": "changed", "stream": False}).json() == shown_props(engine)
    assert engine.get("/props").json() == before


def test_unity_finds_the_server_alive_by_post_with_an_empty_body(api: Client) -> None:
    for options in ({}, {"data": b""}, {"json": {"stream": False}}):
        answer = api.request("POST", "/health", **options)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_a_probe_needs_no_token(stack: Stack) -> None:
    anybody = Client(stack.url)
    with anybody.session:
        assert anybody.get("/health").json() == {"status": "ok"}
        ready = anybody.get("/ready").json()
    assert (ready["ready"], ready["reason"], len(ready["workers"])) == (True, "", 3)
    assert stack.token not in str(ready)
    assert str(stack.home) not in str(ready)


@pytest.fixture
def busy_engine(stack: Stack) -> Any:
    """Have all four slots at work on long streams; they are hung up behind the test."""
    body = {"prompt": "1, 2, 3,", "n_predict": 2000, "ignore_eos": True, "stream": True}
    with ExitStack() as streams:
        for _ in range(4):
            streams.enter_context(send_post(stack.url, "/completion", body, stack.token))
        eventually(lambda: stack.busy() == 4, SLACK_S)
        yield
        assert stack.busy() == 4, "the slots were not busy all the time, so this has shown nothing"
    eventually(lambda: stack.busy() == 0, SLACK_S)


@pytest.mark.usefixtures("busy_engine")
def test_quick_calls_are_answered_while_every_slot_is_busy(api: Client) -> None:
    for path, body in MAX_QUICK_CALLS.values():
        answer = quickly(lambda path=path, body=body: api.post(path, body), QUICK_S)  # type: ignore[misc]
        assert answer.status_code in (200, 400), path
    for method, path in (("POST", "/props"), ("GET", "/props"), ("POST", "/health"), ("GET", "/ready")):
        answer = quickly(lambda method=method, path=path: api.request(method, path), QUICK_S)  # type: ignore[misc]
        assert answer.status_code == 200, path
