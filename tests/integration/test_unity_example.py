"""examples/unity against a running graycat: a chat from C#, with a token of a game's own server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import mono
from tests.support.processes import Output, eventually
from tests.support.stack import Stack, free_ports

LONG = json.dumps({"max_tokens": 3000, "ignore_eos": True})
SESSION = "session-of-alice"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the console program of the example."""
    return mono.compiled(tmp_path_factory.mktemp("unity"), mono.SOURCES / "Program.cs")


@contextmanager
def token_server(stack: Stack, key: str) -> Iterator[str]:
    """Run the game's own server for the block; its address is what it yields."""
    (port,) = free_ports(1)
    env = {**os.environ, "GRAYCAT": stack.url, "GRAYCAT_TOKEN": key, "GAME_SESSIONS": f"{SESSION}:alice"}
    words = [sys.executable, "-m", "flask", "--app", "token_server", "run", "--port", str(port)]
    process = subprocess.Popen(
        words, cwd=mono.SOURCES, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    output = Output(process.stdout)
    try:
        output.wait_for("Running on", mono.PATIENCE_S)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        output.close(mono.PATIENCE_S)


@pytest.fixture(scope="module")
def game_server(stack: Stack) -> Iterator[str]:
    """Yield the address of the game's own server."""
    with token_server(stack, stack.token) as address:
        yield address


def test_a_player_with_a_token_of_the_games_server_talks(stack: Stack, example: Path, game_server: str) -> None:
    env = {"GRAYCAT": stack.url, "GAME_SERVER": f"{game_server}/token", "GAME_SESSION": SESSION}
    status, printed, errors = mono.run(
        example, "chat", say="Hello\n", FIELDS='{"max_tokens": 8, "ignore_eos": true}', **env
    )
    assert (status, errors) == (0, "")
    assert printed.strip()


def test_an_error_is_told_by_its_type(stack: Stack, example: Path, game_server: str) -> None:
    wrong = mono.run(example, "chat", say="Hello\n", GRAYCAT=stack.url, TOKEN="gp_wrong")
    assert wrong[0] == 1
    assert wrong[2].startswith("401 token_unknown: ")
    env = {"GRAYCAT": stack.url, "GAME_SERVER": f"{game_server}/token"}
    stranger = mono.run(example, "chat", say="Hello\n", GAME_SESSION="of nobody", **env)
    assert stranger[2] == "401 not_logged_in: log in first\n"
    # The game's server gives its players 512 tokens a request; waiting would not help.
    greedy = mono.run(example, "chat", say="Hello\n", GAME_SESSION=SESSION, FIELDS=LONG, **env)
    assert greedy[2].startswith("429 limit_exceeded: ")


def test_stop_frees_the_slot_and_the_talk_goes_on(stack: Stack, example: Path) -> None:
    env = {"GRAYCAT": stack.url, "TOKEN": stack.token, "FIELDS": LONG, "STOP_AFTER": "3"}
    with mono.start(example, "chat", env=env) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for _ in range(2):
                process.stdin.write("Hi\n")
                eventually(lambda: stack.busy() == 1, 60)
                while not process.stdout.readline().endswith("[stopped]\n"):
                    assert process.poll() is None
                eventually(lambda: stack.busy() == 0, 20)
                assert process.poll() is None, "its end would have closed the connection"
        finally:
            process.kill()
