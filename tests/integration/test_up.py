"""``graycat up``, while it runs: never open, and alone in its home."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import NewHome
from tests.support.stack import BIN, Client, Stack, running

#: Lines that are not empty, from the command to the address.
MAX_START_LINES = 25


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


@pytest.mark.parametrize("name", ["stack", "fresh"])
def test_a_healthy_start_is_a_screen_of_plain_lines(request: pytest.FixtureRequest, name: str) -> None:
    started: Stack = request.getfixturevalue(name)
    greeting = f"graycat is ready at {started.url}\n"
    start = started.output.partition(greeting)[0] + greeting
    lines = [line for line in start.splitlines() if line.strip()]
    assert len(lines) <= MAX_START_LINES, start
    assert not any(level in start for level in ("WARNING", "ERROR", "CRITICAL", "Traceback")), start
    # It is no terminal.
    assert not any(character in start for character in "\r\x1b")
    for process in ("broker", "web", "llm", "quick", "control", "beat"):
        assert sum(f" {process:7} | ready" in line for line in lines) == 1, start


def test_a_command_finds_the_graycat_of_its_home_whatever_its_own_port_says(fresh: Stack, tmp_path: Path) -> None:
    env = fresh.env | {"PORT": "1", "API_TOKENS": ""}
    words = [str(BIN / "graycat"), "task", "list"]
    done = subprocess.run(words, cwd=tmp_path, env=env, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


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
        assert f"another graycat uses {fresh.home} ({fresh.url}, process " in second.output
        assert "GRAYCAT_HOME" in second.output
        assert fresh.server_pid() == before
        assert fresh.client().post("/tokenize", {"content": "Hi"}).status_code == 200
    finally:
        second.interrupt()
        second.close()
