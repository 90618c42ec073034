from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from graycat.cli import running
from graycat.cli.running import (
    RunningGraycat,
    announced,
    configured_url,
    find_running,
    is_locked,
    lock_home,
    ports_of,
    with_running_ports,
)
from graycat.cli.server import is_this_machine, server_url
from graycat.errors import SettingsError
from graycat.settings import Settings
from graycat.settings.home import tighten_home

URL = "http://127.0.0.1:8123"


def test_a_command_finds_the_graycat_that_runs_with_its_home_not_that_of_another_home(tmp_path: Path) -> None:
    mine, other = Settings(home=tmp_path / "mine", port=8001), Settings(home=tmp_path / "other", port=8001)
    with lock_home(mine.home), announced(mine.home, URL):
        assert find_running(mine.home) == RunningGraycat(os.getpid(), URL)
        assert (server_url(mine), server_url(other)) == (URL, "http://127.0.0.1:8001")
        # It will listen where its own settings say.
        assert configured_url(mine) == "http://127.0.0.1:8001"
    assert find_running(mine.home) is None
    assert server_url(mine) == "http://127.0.0.1:8001"


def test_a_worker_beside_a_running_graycat_uses_its_ports(tmp_path: Path) -> None:
    up, here = Settings(home=tmp_path, llm_port=4001, sd_port=4002), Settings(home=tmp_path)
    with lock_home(tmp_path), announced(tmp_path, URL, ports_of(up)):
        joined = with_running_ports(here, {})
        assert (joined.llm_port, joined.sd_port) == (4001, 4002)
        # What its own environment sets goes first: a second engine needs a port of its own.
        own = with_running_ports(Settings(home=tmp_path, llm_port=4003), {"LLM_PORT": "4003"})
        assert (own.llm_port, own.sd_port) == (4003, 4002)
    assert with_running_ports(here, {}) == here


@pytest.mark.parametrize("ports", ["5", "[1]", '{"LLM_PORT": "x"}'])
def test_ports_that_cannot_be_read_count_for_nothing(tmp_path: Path, ports: str) -> None:
    here = Settings(home=tmp_path)
    with lock_home(tmp_path):
        (tmp_path / running.ADDRESS).write_text(f'{{"pid": 1, "url": "", "ports": {ports}}}')
        assert with_running_ports(here, {}) == here


def test_an_earlier_release_has_told_no_ports(tmp_path: Path) -> None:
    with lock_home(tmp_path):
        (tmp_path / running.ADDRESS).write_text('{"pid": 1, "url": ""}')
        assert with_running_ports(Settings(home=tmp_path), {}) == Settings(home=tmp_path)


def test_a_box_without_a_web_server_has_no_address(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with lock_home(settings.home), announced(settings.home, ""):
        assert str(find_running(settings.home)) == f"process {os.getpid()}"
        assert server_url(settings) == "http://127.0.0.1:8000"


def test_what_a_killed_graycat_has_left_does_not_count(tmp_path: Path) -> None:
    lock = lock_home(tmp_path)
    with announced(tmp_path, URL):
        left = (tmp_path / running.ADDRESS).read_text()
    (tmp_path / running.ADDRESS).write_text(left)
    assert find_running(tmp_path) is not None
    # As at an end by SIGKILL: the lock goes, the file stays.
    lock.close()
    assert not is_locked(tmp_path)
    assert find_running(tmp_path) is None
    # A backup locks the home, too: it does not run at that address.
    with lock_home(tmp_path):
        assert is_locked(tmp_path)
        assert find_running(tmp_path) is None


#: What graycat does not write, by what is wrong with it.
DAMAGED = {
    "empty": "",
    "no-fields": "{}",
    "a-list": "[]",
    "null": "null",
    "wrong-types": '{"pid": null, "url": 1}',
    "no-text": "\x00\xff",
    "infinite": '{"pid": 1e400, "url": "http://127.0.0.1:8123"}',
    "deep": "[" * 4000,
    "no-web-address": '{"pid": 1, "url": "ftp://127.0.0.1"}',
    "long": f'{{"pid": 1, "url": "http://127.0.0.1:8123"}}{" " * running.MAX_ADDRESS_BYTES}',
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_as_none(tmp_path: Path, text: str) -> None:
    with lock_home(tmp_path):
        (tmp_path / running.ADDRESS).write_text(text, encoding="latin-1")
        assert find_running(tmp_path) is None


def test_no_token_goes_to_an_address_that_another_user_has_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path)
    with lock_home(tmp_path), announced(tmp_path, URL):
        monkeypatch.setattr("graycat.cli.running.os.geteuid", lambda: os.getuid() + 1)
        monkeypatch.setattr(running, "ROOT_USER", os.getuid() + 2)
        assert find_running(tmp_path) is None
        assert server_url(settings) == configured_url(settings)
        assert not is_this_machine(settings, "http://somewhere.example")


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_link_a_pipe_or_a_folder_is_no_address_file_and_nobody_waits_for_one(tmp_path: Path, kind: str) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    elsewhere.write_text('{"pid": 1, "url": "http://127.0.0.1:8123"}')
    with lock_home(home):
        make(kind, home / running.ADDRESS, elsewhere)
        assert find_running(home) is None


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_lock_that_is_no_file_is_refused_and_what_a_link_leads_to_stays(tmp_path: Path, kind: str) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    elsewhere.write_text("kept")
    home.mkdir()
    make(kind, home / running.LOCK, elsewhere)
    with pytest.raises(SettingsError, match="lock cannot be opened: .*; remove it"):
        lock_home(home)
    assert elsewhere.read_text() == "kept"


def test_the_address_is_not_written_through_a_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("kept")
    home = tmp_path / "home"
    with lock_home(home):
        make("link", (home / running.ADDRESS).with_suffix(".new"), elsewhere)
        with announced(home, URL):
            assert find_running(home) == RunningGraycat(os.getpid(), URL)
    assert elsewhere.read_text() == "kept"


def make(kind: str, path: Path, target: Path) -> None:
    """Make a path a link to a target, a pipe or a folder."""
    if kind == "link":
        path.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()


def test_a_second_graycat_is_told_where_the_first_one_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LOCK_PATIENCE_S", 0.0)
    with lock_home(tmp_path), announced(tmp_path, URL):
        with pytest.raises(SettingsError) as raised:
            lock_home(tmp_path)
        assert f"another graycat uses {tmp_path} ({URL}, process {os.getpid()}): stop it" in str(raised.value)
        # The second one has taken nothing away.
        assert find_running(tmp_path) is not None
    lock_home(tmp_path).close()


def test_a_command_that_looks_keeps_no_graycat_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock_home(tmp_path).close()
    waits = []

    def end_of_look(seconds: float) -> None:
        waits.append(seconds)
        looking.close()

    with (tmp_path / running.LOCK).open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        monkeypatch.setattr("graycat.cli.running.time.sleep", end_of_look)
        lock_home(tmp_path).close()
    assert waits == [running.LOCK_RETRY_S]


def test_its_files_leave_the_home_a_folder_of_graycat_s_which_is_closed_to_others(tmp_path: Path) -> None:
    with lock_home(tmp_path), announced(tmp_path, URL):
        tmp_path.chmod(0o755)
        tighten_home(tmp_path)
        assert tmp_path.stat().st_mode & 0o077 == 0
