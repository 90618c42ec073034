"""``graycat up`` refuses what cannot work in one line, and leaves nothing behind when it ends."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import NewHome, NewStack
from tests.support.ports import is_free
from tests.support.processes import eventually
from tests.support.stack import BIN, ROOT, START_S, STOP_S, Stack
from tests.support.unity import ErrorAnswer, V3Reader, send_post

#: Seconds that running work gets in these tests, and in which everything is gone then.
GRACE_S, GONE_S = 2, 30.0
LONG_WORK = {"prompt": "1, 2, 3,", "n_predict": 4000, "ignore_eos": True}


def refused(stack: Stack, **env: str) -> str:
    """Return the one line of a ``graycat up`` that cannot start."""
    words = [str(BIN / "graycat"), "up"]
    done = subprocess.run(
        words, cwd=ROOT, env=stack.env | env, check=False, capture_output=True, text=True, timeout=START_S
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("graycat: ")
    assert done.stderr.count("\n") == 1
    assert not stack.command_lines()
    return done.stderr


@pytest.mark.parametrize("name", ["PORT", "LLM_PORT"])
def test_a_taken_port_is_one_line_that_names_its_variable(tmp_path: Path, name: str) -> None:
    stack = Stack(tmp_path / "home")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refused(stack, **{name: port})
    assert port in line
    assert f" {name}=" in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MODEL_URL", "/nowhere/model.gguf"),
        ("STARTUP_COMMAND", "server --port {prot}"),
        ("PORT", "web"),
        ("API_TOKENS", "short"),
        ("API_TOKENS", "a:long-enough,a:long-enough-too,a:long-enough-as-well"),
        ("GRAYCAT_LLM_SLOTS", "0"),
        ("GRAYCAT_LEASE_S", "soon"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_line_that_names_it(tmp_path: Path, name: str, value: str) -> None:
    line = refused(Stack(tmp_path / "home"), **{name: value})
    assert name in line
    assert "long-enough" not in line, "a secret is shown"


def some_process(stack: Stack) -> bool:
    """Return whether ``up`` has begun to start processes."""
    return len(stack.command_lines()) > 1


def some_line(stack: Stack) -> bool:
    """Return whether it has said that it starts."""
    return "| starting " in stack.output


def web_forks(stack: Stack) -> bool:
    """Return whether gunicorn has forked, which is before its child listens to signals."""
    return sum(line.endswith("/graycat web") for line in stack.command_lines().values()) > 1


@pytest.mark.parametrize("moment", [some_process, some_line, web_forks])
def test_ctrl_c_while_it_starts_leaves_nothing_behind(new_home: NewHome, moment: Callable[[Stack], bool]) -> None:
    stack = Stack(new_home(), env={"GRAYCAT_STOP_GRACE_S": str(GRACE_S)})
    stack.launch("up", "graycat up")
    try:
        eventually(lambda: moment(stack), START_S, every_s=0.005)
        started = time.monotonic()
        assert stack.interrupt() == 0
        eventually(lambda: not stack.command_lines(), STOP_S)
        assert time.monotonic() - started < GONE_S
        assert "Traceback" not in stack.output
    finally:
        stack.kill_all()


def play(stack: Stack, stream: bool) -> ErrorAnswer:
    """Return the error in which a game's long request ends."""
    with send_post(stack.url, "/completion", LONG_WORK | {"stream": stream}, stack.token) as connection:
        with pytest.raises(ErrorAnswer) as caught:
            V3Reader().read(connection)
        return caught.value


def test_ctrl_c_ends_work_under_way_and_leaves_nothing_behind(own_stack: NewStack) -> None:
    stack = own_stack(env={"GRAYCAT_STOP_GRACE_S": str(GRACE_S)})
    with ThreadPoolExecutor(2) as games:
        answers = [games.submit(play, stack, stream) for stream in (True, False)]
        eventually(lambda: stack.busy() == 2, START_S)
        started = time.monotonic()
        assert stack.interrupt() == 0
        eventually(lambda: not stack.command_lines(), STOP_S)
        took_s = time.monotonic() - started
        assert [answer.result(STOP_S).status // 100 for answer in answers] == [5, 5]
    assert took_s < GONE_S
    assert "SIGKILL" not in stack.output
    assert "Traceback" not in stack.output


def test_a_killed_up_takes_its_processes_along_and_starts_again(new_home: NewHome) -> None:
    stack = Stack(new_home())
    try:
        stack.start()
        stack.kill("up")
        eventually(lambda: not stack.command_lines(), START_S)
        # A process that ends has lost its command line before it gives its port back.
        eventually(lambda: is_free(stack.llm_port) and is_free(stack.port), START_S)
        stack.start()
        assert stack.client().post("/tokenize", {"content": "Hi"}).status_code == 200
        stack.stop()
    finally:
        stack.kill_all()
