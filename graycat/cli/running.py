"""The graycat that runs with a home: the lock that it holds there, and the address at which it answers."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from graycat.errors import SettingsError
from graycat.settings import Settings
from graycat.settings.home import tighten_home

LOCK, ADDRESS = "lock", "up.json"
#: Seconds for which a lock that is taken is tried again: a command that only looks holds it for a moment.
LOCK_PATIENCE_S, LOCK_RETRY_S = 0.5, 0.05


@dataclass(frozen=True)
class RunningGraycat:
    """A ``graycat up`` that runs."""

    #: Its process id, on the machine or in the container where it runs.
    pid: int
    #: The address at which its web server answers on its machine; '' if it runs none.
    url: str = ""

    def __str__(self) -> str:
        if self.url:
            return f"{self.url}, process {self.pid}"
        return f"process {self.pid}"


def lock_home(home: Path) -> IO[str]:
    """Lock the home and return the lock, which is held until it is closed. Raises SettingsError if it is taken."""
    tighten_home(home)
    lock = (home / LOCK).open("w")
    if not _try_lock(lock):
        lock.close()
        raise SettingsError(describe_other(home))
    # That of an earlier graycat, which was killed.
    (home / ADDRESS).unlink(missing_ok=True)
    return lock


def describe_other(home: Path) -> str:
    """Return what is said to whoever wants a home that another graycat has locked."""
    running = find_running(home)
    where = ""
    if running is not None:
        where = f" ({running})"
    return f"another graycat uses {home}{where}: stop it, or choose another folder with GRAYCAT_HOME=..."


def _try_lock(lock: IO[str]) -> bool:
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOCK_RETRY_S)
        else:
            return True


def is_locked(home: Path) -> bool:
    """Return whether a running graycat has locked the home."""
    try:
        with (home / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        # It was never locked, or by another user whose file this one cannot open.
        return False
    return False


@contextmanager
def announced(home: Path, url: str) -> Iterator[None]:
    """Tell the commands on this machine for the block that graycat runs with this home, which is locked.

    ``url``: where its web server answers; '' if it runs none.
    """
    path = home / ADDRESS
    # Whoever reads it finds all of it, or nothing.
    new = path.with_suffix(".new")
    new.write_text(json.dumps(asdict(RunningGraycat(os.getpid(), url))) + "\n")
    new.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find_running(home: Path) -> RunningGraycat | None:
    """Return the ``graycat up`` that runs with this home; None if none does.

    What a killed one has left there does not count: the kernel has taken its lock back.
    """
    try:
        told = json.loads((home / ADDRESS).read_text(encoding="utf-8"))
        running = RunningGraycat(pid=int(told["pid"]), url=str(told["url"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return running if is_locked(home) else None


def configured_url(settings: Settings) -> str:
    """Return the URL at which this machine reaches a web server that was started with these settings."""
    host = settings.host
    if host in ("0.0.0.0", "::"):  # noqa: S104 (not bound, called)
        host = "127.0.0.1"
    if ":" in host:
        host = f"[{host}]"
    return f"http://{host}:{settings.port}"
