"""A download that is cut again and again, by its server, by kill -9 and by a disk that is really full."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.download_setup import PULL, DownloadSetup
from tests.support.files import BLOCK, Served, digest_of, gguf, sha256
from tests.support.helpers import PATIENCE_S, eventually
from tests.support.servers import Handler, http_server

#: How each of ten transfers ends, but for the last one.
CUTS = ("dropped", "killed", "full") * 3 + ("killed",)
CONTENT = gguf(1_500_000)
#: Half as much again as the file needs, so that it fits, and what is left is soon filled.
DISK_BYTES = 2_300_000
#: ``graycat models pull`` on a disk this small: the bytes that stay free on a real one are more than it has.
PULL_ALL = [
    PULL[0],
    "-c",
    f"from graycat.engines.models import downloads; downloads.RESERVE_BYTES = 0; {PULL[2]}",
    *PULL[3:],
]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    done = subprocess.run(mount, check=False, capture_output=True, text=True)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"a disk that can be filled needs root: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Transfer:
    """A server that pauses at an offset, and breaks off behind it."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._limit = len(CONTENT)
        self._held, self._more = False, 0
        self.served = Served(CONTENT, before=self._pause)

    def _pause(self, _: Handler, offset: int) -> None:
        with self._news:
            if offset < self._limit:
                return
            self._held = True
            self._news.notify_all()
            self._news.wait_for(lambda: not self._held, PATIENCE_S)
            self.served.drops.append(offset + self._more)

    def wait_until_held(self, folder: DownloadSetup, offset: int) -> None:
        """Return when the server pauses, and what it has sent is on the disk."""
        with self._news:
            assert self._news.wait_for(lambda: self._held, PATIENCE_S)
        eventually(lambda: folder.partial_bytes() >= offset - BLOCK)

    def pause_at(self, offset: int) -> None:
        """Pause there next; only while it is paused, or between two transfers."""
        self._limit = offset

    def let_go(self, more: int) -> None:
        """Send so many bytes more, then break off."""
        with self._news:
            self._held, self._more = False, more
            self._news.notify_all()


def fill(folder: Path) -> Path:
    """Take all that is left of a disk; return the file that does."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def test_ten_cuts_of_every_kind_end_in_the_right_file(small_disk: Path, bare_environment: dict[str, str]) -> None:
    transfer = Transfer()
    with http_server({"GET /m.gguf": transfer.served}) as seen:
        setup = DownloadSetup(small_disk, seen)
        env = bare_environment | {"GRAYCAT_HOME": str(small_disk)}

        def pull() -> subprocess.Popen[str]:
            command = [*PULL_ALL, f"{seen.url}/m.gguf"]
            return subprocess.Popen(command, env=env, cwd=small_disk, stderr=subprocess.PIPE, text=True)

        blocks = sorted(random.SystemRandom().sample(range(2, len(CONTENT) // BLOCK), len(CUTS)))
        offsets = [block * BLOCK for block in blocks]
        transfer.pause_at(offsets[0])
        process = pull()
        for cut, offset, following in zip(CUTS, offsets, [*offsets[1:], len(CONTENT)], strict=True):
            transfer.wait_until_held(setup, offset)
            assert not (setup.folder / "m.gguf").exists()
            transfer.pause_at(following)
            if cut == "dropped":
                # The same process goes on by itself.
                transfer.let_go(1)
                continue
            if cut == "killed":
                process.send_signal(signal.SIGKILL)
                process.communicate(timeout=PATIENCE_S)
                transfer.let_go(1)
            else:
                filler = fill(small_disk)
                transfer.let_go(BLOCK - 1)
                output = process.communicate(timeout=PATIENCE_S)[1]
                assert (process.returncode, "the disk is" in output, "Traceback" in output) == (1, True, False), output
                filler.unlink()
            process = pull()
        output = process.communicate(timeout=PATIENCE_S)[1]
        assert process.returncode == 0, output
        assert digest_of(setup.folder / "m.gguf") == sha256(CONTENT)
        assert setup.files() == ["m.gguf", "m.gguf.json"]
        ranges = setup.ranges()
        # Each went on where the one before it was cut.
        assert ranges[0] == ""
        assert all(asked.startswith("bytes=") for asked in ranges[1:])
        begun = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in ranges[1:]]
        assert begun == sorted(begun)
        assert len(begun) >= len(CUTS)
