"""``graycat up``: refuses what cannot work in one line, never starts open, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import NewHome, NewStack
from tests.support.processes import eventually
from tests.support.stack import BIN, ROOT, START_S, STOP_S, Client, Stack, running
from tests.support.unity import ErrorAnswer, V3Reader, send_post

#: Seconds that running work gets in these tests, and in which everything is gone then.
GRACE_S, GONE_S = 2, 8.0
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


@pytest.fixture(scope="module")
def fresh(new_home: NewHome) -> Iterator[Stack]:
    """Yield a stack as on a fresh machine, without API_TOKENS; its home has a long path."""
    home = new_home("x" * 100)
    with running(Stack(home, env={"API_TOKENS": "", "GRAYCAT_LLM_SLOTS": "2"})) as started:
        started.token = (home / "api-token").read_text().strip()
        yield started


def test_without_api_tokens_one_is_made_and_kept_from_others(fresh: Stack) -> None:
    assert len(fresh.token) > 40
    # The output of a service is kept somewhere; it is no terminal.
    assert f"API token: in {fresh.home / 'api-token'}\n" in fresh.output
    assert fresh.token not in fresh.output
    assert stat.S_IMODE((fresh.home / "api-token").stat().st_mode) == 0o600
    assert fresh.client().post("/tokenize", {"content": "Hi"}).status_code == 200


def test_nothing_in_the_home_is_open_to_others(fresh: Stack) -> None:
    loose = []
    for folder, folders, files in os.walk(fresh.home):
        for name in (".", *folders, *files):
            # Files come and go.
            with contextlib.suppress(FileNotFoundError):
                status = (Path(folder) / name).lstat()
                if stat.S_IMODE(status.st_mode) & 0o077 and not stat.S_ISLNK(status.st_mode):
                    loose.append(f"{folder}/{name}")
    # The tests' own home begins with a model.
    assert [path for path in loose if not path.startswith(f"{fresh.home}/models")] == []


def test_a_configured_token_is_never_printed(stack: Stack) -> None:
    assert "API token: that of API_TOKENS\n" in stack.output
    assert stack.token not in stack.output


def test_a_fresh_stack_is_not_open(fresh: Stack) -> None:
    for token in ("", "default", "None", "gc_"):
        client = Client(fresh.url, token)
        with client.session:
            assert client.post("/tokenize", {"content": "Hi"}).status_code == 401


def test_only_this_machine_and_this_user_reach_broker_and_engine(fresh: Stack) -> None:
    broker = fresh.settings.broker_socket
    assert stat.S_ISSOCK(broker.stat().st_mode)
    for folder in (broker.parent, fresh.home / "broker"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    addresses = {fields[1] for fields in listening if fields[3] == "0A"}
    for port in (fresh.port, fresh.llm_port):
        assert {address for address in addresses if address.endswith(f":{port:04X}")} == {f"0100007F:{port:04X}"}


def test_two_stacks_live_side_by_side(stack: Stack, fresh: Stack) -> None:
    body = {"prompt": "1, 2, 3, 4,", "n_predict": 4, "temperature": 0}
    for one, other in ((stack, fresh), (fresh, stack)):
        assert one.client().post("/completion", body).json()["content"] == " 5, "
        stranger = Client(one.url, other.token)
        with stranger.session:
            assert stranger.post("/completion", body).status_code == 401
    assert [one.client().get("/props").json()["total_slots"] for one in (stack, fresh)] == [4, 2]
    assert not set(stack.command_lines()) & set(fresh.command_lines())


def test_a_home_that_is_in_use_is_refused(fresh: Stack) -> None:
    """Two brokers would write into the same files."""
    second = Stack(fresh.home, env={"API_TOKENS": ""})
    before = fresh.server_pid()
    second.launch("up", "graycat up")
    try:
        assert second.wait("up", 15) == 2
        assert "GRAYCAT_HOME" in second.output
        assert fresh.server_pid() == before
        assert fresh.client().post("/tokenize", {"content": "Hi"}).status_code == 200
    finally:
        second.interrupt()
        second.close()


def some_process(stack: Stack) -> bool:
    """Return whether ``up`` has begun to start processes."""
    return len(stack.command_lines()) > 1


def some_line(stack: Stack) -> bool:
    """Return whether one of them has started."""
    return "started (pid" in stack.output


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
        eventually(lambda: stack.busy() == 2, 60)
        started = time.monotonic()
        assert stack.interrupt() == 0
        eventually(lambda: not stack.command_lines(), STOP_S)
        took_s = time.monotonic() - started
        assert [answer.result(STOP_S).status // 100 for answer in answers] == [5, 5]
    assert took_s < GONE_S
    assert "SIGKILL" not in stack.output


def test_a_killed_up_takes_its_processes_along_and_starts_again(new_home: NewHome) -> None:
    stack = Stack(new_home())
    try:
        stack.start()
        stack.kill("up")
        eventually(lambda: not stack.command_lines(), 10)
        stack.start()
        assert stack.client().post("/tokenize", {"content": "Hi"}).status_code == 200
        stack.stop()
    finally:
        stack.kill_all()
