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
from tests.support.download_setup import CONTENT, PULL, DownloadSetup
from tests.support.files import BLOCK, Served, digest_of, gguf, sha256
from tests.support.helpers import PATIENCE_S, eventually, outcome_of
from tests.support.servers import Handler, hold


def test_a_file_that_does_not_fit_on_the_disk_is_not_begun(set_up_download, monkeypatch) -> None:
    monkeypatch.setattr(downloads, "free_bytes", lambda _: downloads.RESERVE_BYTES + len(CONTENT) - 1)
    setup = set_up_download(Served(CONTENT))
    with pytest.raises(DownloadFailed, match="too full: 0.3 GB are needed"):
        setup.fetch()
    assert setup.partial_bytes() == 0


def test_a_disk_that_fills_up_meanwhile_ends_a_download(set_up_download, monkeypatch) -> None:
    monkeypatch.setattr(downloads, "SPACE_CHECK_INTERVAL_BYTES", BLOCK)
    free = [0, 10**12]
    monkeypatch.setattr(downloads, "free_bytes", lambda _: free.pop())
    content = gguf(3_000_000)
    setup = set_up_download(Served(content))
    with pytest.raises(DownloadFailed, match="too full"):
        setup.fetch()
    assert 0 < setup.partial_bytes() < len(content)
    monkeypatch.setattr(downloads, "free_bytes", lambda _: 10**12)
    assert setup.fetch().read_bytes() == content


def test_a_failed_write_is_reported_and_the_download_resumes_later(set_up_download, bare_environment) -> None:
    setup = set_up_download(Served(CONTENT))
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
    command = [PULL[0], "-c", limit + PULL[2], *PULL[3:], f"{setup.seen.url}/m.gguf"]
    env = bare_environment | {"GRAYCAT_HOME": str(setup.settings.home)}
    done = subprocess.run(command, env=env, cwd=setup.settings.home, check=False, capture_output=True, text=True)
    assert (done.returncode, "the disk is full" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr
    assert setup.files()[0].endswith(".partial")
    assert setup.fetch().read_bytes() == CONTENT
    assert setup.ranges()[-1] == "bytes=100000-"


def puller(setup: DownloadSetup, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a process that pulls the server's file."""
    env = env | {"GRAYCAT_HOME": str(setup.settings.home)}
    command = [*PULL, f"{setup.seen.url}/m.gguf"]
    return subprocess.Popen(command, env=env, cwd=setup.settings.home, stderr=subprocess.DEVNULL)


def test_a_killed_download_is_resumed(set_up_download, bare_environment) -> None:
    content = gguf(2_000_000)
    points = sorted(random.SystemRandom().sample(range(BLOCK, len(content) - BLOCK), 5))
    limit = [points[0]]

    def pause(handler: Handler, offset: int) -> None:
        if offset >= limit[0]:
            hold(handler)

    setup = set_up_download(Served(content, before=pause))
    for round_, limit[0] in enumerate(points, start=1):
        process = puller(setup, bare_environment)
        eventually(partial(has_downloaded, setup, round_, limit[0] - BLOCK))
        os.kill(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_S)
        assert not (setup.folder / "m.gguf").exists()
    limit[0] = len(content)
    assert puller(setup, bare_environment).wait(PATIENCE_S) == 0
    assert digest_of(setup.folder / "m.gguf") == sha256(content)
    assert setup.files() == ["m.gguf", "m.gguf.json"]
    assert len(setup.seen.requests) == len(points) + 1
    assert all(asked.startswith("bytes=") for asked in setup.ranges()[1:])


def has_downloaded(setup: DownloadSetup, requests: int, size: int) -> bool:
    """Tell whether so many requests were made and so many bytes are here."""
    return len(setup.seen.requests) == requests and setup.partial_bytes() >= size


def test_two_processes_at_once_fetch_a_file_once(set_up_download, bare_environment) -> None:
    gate = threading.Event()

    def pause(handler: Handler, offset: int) -> None:
        if offset >= 5 * BLOCK:
            gate.wait(PATIENCE_S)

    setup = set_up_download(Served(CONTENT, before=pause))
    first = puller(setup, bare_environment)
    assert setup.seen.asked.wait(PATIENCE_S)
    second = puller(setup, bare_environment)
    eventually(lambda: has_open(second.pid, setup.folder / downloads.LOCK_NAME))
    gate.set()
    assert (first.wait(PATIENCE_S), second.wait(PATIENCE_S)) == (0, 0)
    assert len(setup.seen.requests) == 1
    assert digest_of(setup.folder / "m.gguf") == sha256(CONTENT)


def has_open(pid: int, path: Path) -> bool:
    """Tell whether a process has a file open."""
    folder = Path(f"/proc/{pid}/fd")
    try:
        return any(str(link.readlink()) == str(path) for link in folder.iterdir())
    except FileNotFoundError:
        # It has closed one meanwhile.
        return False


def test_a_wait_for_another_process_can_be_stopped(set_up_download) -> None:
    setup = set_up_download(Served(CONTENT))
    setup.folder.mkdir(parents=True)
    with downloads.hold_lock(setup.folder / downloads.LOCK_NAME, setup.stop):
        result = outcome_of(setup.fetch)
        setup.stop.set()
        with pytest.raises(DownloadFailed, match="was stopped"):
            result()
    assert setup.seen.requests == []
