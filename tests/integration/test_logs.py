"""Logs hold ids, sizes and times: no prompt, no output and no API token, even when everything is logged."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.processes import SLACK_S, eventually
from tests.support.stack import Client, Stack
from tests.support.unity import send_post

#: Words that no log may hold: what callers send, what the model is made to say, and a credential that is wrong.
PROMPT, OUTPUT, STRANGER = "zebraprompt", "walrus", "marmottoken"


@pytest.fixture(scope="module")
def chatty(frail: Stack) -> Stack:
    """Return a stack that logs all it can, after requests of every kind."""
    use(frail)
    return frail


def use(stack: Stack) -> None:
    """Send requests that succeed, fail, are hung up and lose their engine."""
    client, stranger = stack.client(), Client(stack.url, STRANGER)
    said = {"prompt": PROMPT, "n_predict": 8, "grammar": f'root ::= "{OUTPUT}"'}
    for stream in (True, False):
        assert client.post("/completion", said | {"stream": stream}).status_code == 200
        assert client.post("/completion", said | {"n_probs": PROMPT, "stream": stream}).status_code == 400
    assert client.post("/tokenize", {"content": PROMPT}).status_code == 200
    assert client.post("/apply-template", {"messages": [{"role": "user", "content": PROMPT}]}).status_code == 200
    assert client.post("/apply-template", {"messages": PROMPT}).status_code == 400
    assert client.request("POST", "/completion", data=f'{{"prompt": "{PROMPT}'.encode()).status_code == 400
    assert client.request("POST", f"/{PROMPT}?api_key={stack.token}").status_code == 404
    assert client.get("/health", headers={"X-Request-ID": f"{PROMPT} and more"}).status_code == 200
    with stranger.session:
        assert stranger.post("/completion", said).status_code == 401
    endless = {"prompt": PROMPT, "n_predict": 2000, "ignore_eos": True, "stream": True}
    for end in (lambda _: None, lose_engine):
        with send_post(stack.url, "/completion", endless, stack.token):
            eventually(lambda: stack.busy() == 1, SLACK_S)
            end(stack)
        eventually(stack.ready, SLACK_S)


def lose_engine(stack: Stack) -> None:
    """Kill the engine; returns when there is another."""
    pid = stack.engine_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: "engine process died" in stack.output, SLACK_S)
    eventually(lambda: stack.engine_pid() not in (None, pid), SLACK_S)


def logs(stack: Stack) -> dict[str, str]:
    """Return everything that its processes have written, by source."""
    files = [path for path in stack.home.rglob("*.log") if path.is_file()]
    return {"output": stack.output, **{path.name: path.read_text(errors="replace") for path in files}}


@pytest.mark.parametrize("word", [PROMPT, OUTPUT, STRANGER])
def test_no_log_holds_what_callers_send_or_get(chatty: Stack, word: str) -> None:
    leaks = [f"{source}: {line}" for source, text in logs(chatty).items() for line in text.splitlines() if word in line]
    assert not leaks, "\n".join(leaks)


def test_the_configured_api_token_is_in_no_log(chatty: Stack) -> None:
    assert not [name for name, text in logs(chatty).items() if chatty.token in text]


def test_no_command_line_shows_the_api_token(chatty: Stack) -> None:
    assert not [line for line in chatty.command_lines().values() if chatty.token in line]


def test_the_broker_holds_no_api_token(chatty: Stack) -> None:
    files = [path for path in (chatty.home / "broker").rglob("*") if path.is_file()]
    assert files
    assert not [path.name for path in files if chatty.token.encode() in Path(path).read_bytes()]


def test_a_request_can_be_followed_through_web_and_worker(chatty: Stack) -> None:
    client = chatty.client()
    given = client.post("/completion", {"prompt": "1, 2,", "n_predict": 1}, headers={"X-Request-ID": "follow-me-17"})
    assert given.headers["X-Request-ID"] == "follow-me-17"
    eventually(lambda: chatty.output.count("request_id=follow-me-17") >= 2, SLACK_S)
    lines = [line for line in chatty.output.splitlines() if "request_id=follow-me-17" in line]
    assert {line.split()[1] for line in lines} >= {"web", "llm"}
    assert len({line.partition(" task_id=")[2].split()[0] for line in lines}) == 1
