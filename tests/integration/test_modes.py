"""What one box runs: everything, workers for a broker elsewhere, or engines without anything."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import requests

from tests.support.boxes import FAKE, at_home
from tests.support.processes import eventually
from tests.support.stack import START_S, STOP_S, Stack, running

KEY = "a-key-of-the-engines"
ENGINE = f"{FAKE} --host {{host}} --port {{port}} --api-key {{api_key}}"
#: Somebody else's way to this machine: nobody who listens on 127.0.0.1 alone hears what is sent there.
OUTSIDE = "127.0.0.2"


def reached(port: int, path: str = "/props", key: str = "") -> int:
    """Return the status of an engine's answer to somebody from outside; 0 where it cannot be reached."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        return requests.get(f"http://{OUTSIDE}:{port}{path}", headers=headers, timeout=5).status_code
    except requests.ConnectionError:
        return 0


def commands_of(stack: Stack) -> set[str]:
    """Return graycat's own commands that run."""
    lines = (line.partition("/graycat ")[2] for line in stack.command_lines().values())
    return {line for line in lines if line and line != "up"}


def test_unset_all_is_on_this_machine_and_nobody_else_reaches_the_engine(tmp_path: Path) -> None:
    env = {"STARTUP_COMMAND": ENGINE, "GRAYCAT_ENGINE_API_KEY": KEY}
    with running(Stack(tmp_path / "home", env=env)) as stack:
        assert {"broker", "web", "worker llm", "worker quick", "worker control"} <= commands_of(stack)
        assert stack.client().post("/completion", {"prompt": "x", "n_predict": 3}).status_code == 200
        assert stack.client().post("/tokenize", {"content": "Hi"}).json() == {"tokens": [72, 105]}
        assert (reached(stack.llm_port), reached(stack.port)) == (0, 0)


def test_remote_only_workers_run_and_find_their_broker_again_however_long_it_is_away(tmp_path: Path) -> None:
    with at_home(tmp_path / "home") as home:
        url = home.broker.add_box("box7", "llm", "quick")
        env = {"REMOTE": "true", "STARTUP_COMMAND": ENGINE, "GRAYCAT_ENGINE_API_KEY": KEY}
        box = home.box("box7", url, **env)
        output = box.launch("up", "graycat up")
        for worker in ("llm@box7", "quick@box7"):
            home.wait_until_consuming(worker)
        assert commands_of(box) == {"worker llm", "worker quick"}
        assert (reached(box.llm_port), reached(box.port)) == (0, 0)
        assert f"works for the broker at 127.0.0.1:{home.broker.port}" in output.text
        assert KEY not in output.text
        assert home.broker.refusals() == []
        home.broker.kill()
        home.broker.start()
        # It knows the box no more, until its user is made again.
        home.broker.add_user("box7")
        home.wait_until_consuming("llm@box7")
        assert home.client().post("/completion", {"prompt": "x", "n_predict": 3}).status_code == 200
        os.kill(box.processes()["up"], signal.SIGINT)
        assert box.wait("up", STOP_S) == 0
        assert home.row("llm@box7") == {}


def test_alone_engines_are_open_to_who_has_their_key_and_nothing_else_runs(tmp_path: Path) -> None:
    env = {"REMOTE": "false", "STARTUP_COMMAND": ENGINE, "GRAYCAT_ENGINE_API_KEY": KEY}
    box = Stack(tmp_path / "home", separately=True, env=env)
    try:
        output = box.launch("up", "graycat up")
        output.wait_for(" llm | ready", START_S)
        assert [reached(box.llm_port, key=key) for key in ("", "a-wrong-key", KEY)] == [401, 401, 200]
        assert commands_of(box) == {"engine llm"}
        assert reached(box.port) == 0
        assert KEY not in output.text
        # What dies is started again.
        engine = next(pid for pid, line in box.command_lines().items() if "llama_server.py" in line)
        os.kill(engine, signal.SIGKILL)
        eventually(lambda: engine not in box.command_lines() and reached(box.llm_port, key=KEY) == 200, START_S)
        os.kill(box.processes()["up"], signal.SIGINT)
        assert box.wait("up", STOP_S) == 0
        eventually(lambda: not box.command_lines(), STOP_S)
    finally:
        box.kill_all()


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"REMOTE": "true"}, "REDIS_URL"),
        ({"REMOTE": "false"}, "GRAYCAT_ENGINE_API_KEY"),
        ({"REMOTE": "false", "GRAYCAT_ENGINE_API_KEY": KEY, "STARTUP_COMMAND": "server --port {port}"}, "{api_key}"),
        ({"REMOTE": "false", "GRAYCAT_ENGINE_API_KEY": KEY, "RUN_LLM": "false"}, "RUN_LLM"),
    ],
)
def test_a_box_that_would_be_useless_or_open_does_not_start(tmp_path: Path, env: dict[str, str], told: str) -> None:
    box = Stack(tmp_path / "home", separately=True, env=env)
    try:
        output = box.launch("up", "graycat up")
        assert box.wait("up", START_S) == 2
        output.close(STOP_S)
        assert output.text.startswith("graycat: ")
        assert told in output.text
        assert output.text.count("\n") == 1
    finally:
        box.kill_all()
