"""What API tokens have used, on a running graycat with a real text engine and the placeholder for images."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import NewHome
from tests.support.processes import eventually
from tests.support.stack import BIN, Client, Stack, running

CHAT = {"messages": [{"role": "user", "content": "Say hi"}], "max_tokens": 4, "temperature": 0}
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def parts(new_home: NewHome) -> Iterator[Stack]:
    """Yield a stack with a model and the placeholder, and two more API tokens."""
    env = {"RUN_SD": "true", "GRAYCAT_ADMINS": "tests"}
    with running(Stack(new_home("usage"), env=env)) as started:
        yield started


def minted(stack: Stack, name: str) -> Client:
    """Return a client with a new API token."""
    answer = stack.client().post("/tokens", {"name": name}).json()
    return Client(stack.url, answer["token"])


def rows(client: Client, **query: str) -> dict[str, dict[str, Any]]:
    answer = client.get("/usage", params=query)
    assert answer.status_code == 200, answer.text
    return {row["family"]: row for row in answer.json()["rows"]}


def after(client: Client, requests: int, family: str = "llm") -> dict[str, Any]:
    """Return the row of a family when it has so many requests."""
    eventually(lambda: rows(client).get(family, {}).get("requests") == requests, PATIENCE_S)
    return rows(client)[family]


def test_the_tokens_are_those_that_the_engine_tells_its_callers(parts: Stack) -> None:
    client = minted(parts, "game")
    told = [0, 0]
    for path, body in (
        ("/v1/chat/completions", CHAT),
        ("/v1/completions", {"prompt": "1, 2, 3,", "max_tokens": 5}),
        ("/v1/completions", {"prompt": ["1, 2, 3,", "4, 5"], "max_tokens": 3}),
    ):
        usage = client.post(path, body).json()["usage"]
        told[0] += usage["prompt_tokens"]
        told[1] += usage["completion_tokens"]
    native = client.post("/completion", {"prompt": "1, 2, 3,", "n_predict": 3}).json()
    message = client.post("/v1/messages", CHAT).json()["usage"]
    streamed = client.post("/v1/chat/completions", CHAT | {"stream": True, "stream_options": {"include_usage": True}})
    chunk = json.loads(streamed.text.split("data: ")[-2])["usage"]
    # This stream does not tell its caller, and is the same again.
    assert "usage" not in client.post("/v1/chat/completions", CHAT | {"stream": True}).text
    told[0] += native["tokens_evaluated"] + message["input_tokens"] + message.get("cache_read_input_tokens", 0)
    told[0] += 2 * chunk["prompt_tokens"]
    told[1] += native["tokens_predicted"] + message["output_tokens"] + 2 * chunk["completion_tokens"]
    row = after(client, 7)
    assert [row["prompt_tokens"], row["completion_tokens"]] == told
    assert (row["owner"], row["failed"], row["cancelled"], row["images"]) == ("game", 0, 0, 0)
    assert 0 < row["gpu_seconds"] < PATIENCE_S


def test_failed_and_cancelled_tasks_and_players_count(parts: Stack) -> None:
    client = minted(parts, "trials")
    assert client.post("/completion", {"prompt": "x", "grammar": "root ::= ("}).status_code == 400
    player = client.post("/tokens/player", {"player": "one"}).json()["token"]
    long = {"kind": "llm.completion", "input": {"prompt": "Once", "n_predict": 2000, "ignore_eos": True}}
    task = Client(parts.url, player).post("/tasks", long).json()["id"]
    record = f"graycat:task:{task}"
    eventually(lambda: parts.redis().hget(record, "first_event_ms"), PATIENCE_S)
    assert Client(parts.url, player).request("DELETE", f"/tasks/{task}").status_code < 300
    row = after(client, 2)
    assert (row["failed"], row["cancelled"]) == (1, 1)
    assert 0 < row["completion_tokens"] < 2000
    assert Client(parts.url, player).get("/usage").status_code == 403


def test_images_count_apart_and_the_command_line_shows_all(parts: Stack) -> None:
    client = minted(parts, "artist")
    body = {"prompt": "a tavern", "width": 64, "height": 64, "steps": 2, "batch_size": 3}
    assert len(client.post("/sdapi/v1/txt2img", body).json()["images"]) == 3
    row = after(client, 1, "sd")
    assert (row["images"], row["prompt_tokens"]) == (3, 0)
    command = [str(BIN / "graycat"), "tokens", "usage", "artist", "--json"]
    printed = json.loads(subprocess.run(command, env=parts.env, check=True, capture_output=True, text=True).stdout)
    assert printed["rows"] == [row]
    assert rows(parts.client(), owner="artist") == {"sd": row}
