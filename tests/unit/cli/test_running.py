from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from graycat.cli import running
from graycat.cli.running import RunningGraycat, announced, configured_url, find_running, is_locked, lock_home
from graycat.cli.server import server_url
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


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"pid": null, "url": 1}', "\x00\xff"])
def test_a_damaged_file_is_as_none(tmp_path: Path, text: str) -> None:
    with lock_home(tmp_path):
        (tmp_path / running.ADDRESS).write_text(text, encoding="latin-1")
        assert find_running(tmp_path) is None


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
