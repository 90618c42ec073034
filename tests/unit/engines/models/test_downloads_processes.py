"""Downloads that are killed, that meet each other, and that fill the disk."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from functools import partial
from pathlib import Path

import pytest

from graycat.engines.models import downloads
from graycat.engines.models.errors import DownloadFailed
from tests.support.files import BLOCK, Served, digest_of, gguf, sha256
from tests.support.helpers import PATIENCE_S, eventually, outcome_of
from tests.support.places import CONTENT, PULL, Place
from tests.support.servers import Handler, hold


def test_a_file_that_the_disk_has_no_room_for_is_not_begun(place, monkeypatch) -> None:
    monkeypatch.setattr(downloads, "free_bytes", lambda _: downloads.RESERVE_BYTES + len(CONTENT) - 1)
    here = place(Served(CONTENT))
    with pytest.raises(DownloadFailed, match="too full: 0.3 GB are needed"):
        here.fetch()
    assert here.half() == 0


def test_a_disk_that_fills_up_meanwhile_ends_a_download(place, monkeypatch) -> None:
    monkeypatch.setattr(downloads, "SPACE_CHECK_INTERVAL_BYTES", BLOCK)
    free = [0, 10**12]
    monkeypatch.setattr(downloads, "free_bytes", lambda _: free.pop())
    content = gguf(3_000_000)
    here = place(Served(content))
    with pytest.raises(DownloadFailed, match="too full"):
        here.fetch()
    assert 0 < here.half() < len(content)
    monkeypatch.setattr(downloads, "free_bytes", lambda _: 10**12)
    assert here.fetch().read_bytes() == content


def test_a_write_that_fails_is_told_and_gone_on_with_later(place, bare_environment) -> None:
    here = place(Served(CONTENT))
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
    command = [PULL[0], "-c", limit + PULL[2], *PULL[3:], f"{here.seen.url}/m.gguf"]
    env = bare_environment | {"GRAYCAT_HOME": str(here.settings.home)}
    done = subprocess.run(command, env=env, cwd=here.settings.home, check=False, capture_output=True, text=True)
    assert (done.returncode, "the disk is full" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr
    assert here.files()[0].endswith(".partial")
    assert here.fetch().read_bytes() == CONTENT
    assert here.ranges()[-1] == "bytes=100000-"


def puller(here: Place, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a process that pulls the server's file."""
    env = env | {"GRAYCAT_HOME": str(here.settings.home)}
    command = [*PULL, f"{here.seen.url}/m.gguf"]
    return subprocess.Popen(command, env=env, cwd=here.settings.home, stderr=subprocess.DEVNULL)


def test_a_killed_download_goes_on_to_the_right_file(place, bare_environment) -> None:
    content = gguf(2_000_000)
    points = sorted(random.SystemRandom().sample(range(BLOCK, len(content) - BLOCK), 5))
    limit = [points[0]]

    def pause(handler: Handler, offset: int) -> None:
        if offset >= limit[0]:
            hold(handler)

    here = place(Served(content, before=pause))
    for round_, limit[0] in enumerate(points, start=1):
        process = puller(here, bare_environment)
        eventually(partial(has_come, here, round_, limit[0] - BLOCK))
        os.kill(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_S)
        assert not (here.folder / "m.gguf").exists()
    limit[0] = len(content)
    assert puller(here, bare_environment).wait(PATIENCE_S) == 0
    assert digest_of(here.folder / "m.gguf") == sha256(content)
    assert here.files() == ["m.gguf", "m.gguf.json"]
    assert len(here.seen.requests) == len(points) + 1
    assert all(asked.startswith("bytes=") for asked in here.ranges()[1:])


def has_come(here: Place, requests: int, size: int) -> bool:
    """Tell whether so many requests were made and so many bytes are here."""
    return len(here.seen.requests) == requests and here.half() >= size


def test_two_processes_at_once_fetch_a_file_once(place, bare_environment) -> None:
    gate = threading.Event()

    def pause(handler: Handler, offset: int) -> None:
        if offset >= 5 * BLOCK:
            gate.wait(PATIENCE_S)

    here = place(Served(CONTENT, before=pause))
    first = puller(here, bare_environment)
    assert here.seen.asked.wait(PATIENCE_S)
    second = puller(here, bare_environment)
    eventually(lambda: has_open(second.pid, here.folder / downloads.LOCK_NAME))
    gate.set()
    assert (first.wait(PATIENCE_S), second.wait(PATIENCE_S)) == (0, 0)
    assert len(here.seen.requests) == 1
    assert digest_of(here.folder / "m.gguf") == sha256(CONTENT)


def has_open(pid: int, path: Path) -> bool:
    """Tell whether a process has a file open."""
    folder = Path(f"/proc/{pid}/fd")
    try:
        return any(str(link.readlink()) == str(path) for link in folder.iterdir())
    except FileNotFoundError:
        # It has closed one meanwhile.
        return False


def test_who_waits_for_another_process_can_be_told_to_stop(place) -> None:
    here = place(Served(CONTENT))
    here.folder.mkdir(parents=True)
    with downloads.hold_lock(here.folder / downloads.LOCK_NAME, here.stop):
        result = outcome_of(here.fetch)
        here.stop.set()
        with pytest.raises(DownloadFailed, match="was stopped"):
            result()
    assert here.seen.requests == []
