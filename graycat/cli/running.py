"""The graycat that runs with a home: the lock that it holds there, and the address at which it answers."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import IO, Any

from graycat.errors import SettingsError
from graycat.settings import Settings
from graycat.settings.home import PRIVATE_FILE, tighten_home
from graycat.settings.rules import is_port, variable_of

LOCK, ADDRESS = "lock", "up.json"
#: A longer address file was not written by graycat.
MAX_ADDRESS_BYTES = 4096
ROOT_USER = 0
#: Seconds for which a lock that is taken is tried again: a command that only looks holds it for a moment.
LOCK_PATIENCE_S, LOCK_RETRY_S = 0.5, 0.05


@dataclass(frozen=True)
class RunningGraycat:
    """A ``graycat up`` that runs."""

    #: Its process id, on the machine or in the container where it runs.
    pid: int
    #: The address at which its web server answers on its machine; '' if it runs none.
    url: str = ""
    #: Its ports, by the variables that set them: ``{"LLM_PORT": 1337}``.
    ports: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.url:
            return f"{self.url}, process {self.pid}"
        return f"process {self.pid}"


def lock_home(home: Path) -> IO[str]:
    """Lock the home and return the lock, which is held until it is closed. Raises SettingsError if it is taken."""
    tighten_home(home)
    lock = _open_lock(home / LOCK)
    if not _try_lock(lock):
        lock.close()
        raise SettingsError(describe_other(home))
    # That of an earlier graycat, which was killed.
    (home / ADDRESS).unlink(missing_ok=True)
    return lock


def _open_lock(path: Path) -> IO[str]:
    """Open the file of a lock, which is made if there is none. Raises SettingsError for a link or a folder."""
    try:
        # Neither through a link to another file, nor waiting at a pipe.
        return open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, PRIVATE_FILE), "r+")
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be opened: {error.strerror}; remove it, or choose another GRAYCAT_HOME"
        ) from None


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
        with open(os.open(home / LOCK, os.O_RDONLY | os.O_NONBLOCK)) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        # It was never locked, or by another user whose file this one cannot open.
        return False
    return False


@contextmanager
def announced(home: Path, url: str, ports: Mapping[str, int] | None = None) -> Iterator[None]:
    """Tell the commands on this machine for the block that graycat runs with this home, which is locked.

    ``url``: where its web server answers; '' if it runs none. ``ports``: those that it uses, by variable.
    """
    path = home / ADDRESS
    # Whoever reads it finds all of it, or nothing.
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    # A new file: it is not written through a link that somebody else has left in the folder.
    with new.open("x") as file:
        file.write(json.dumps(asdict(RunningGraycat(os.getpid(), url, dict(ports or {})))) + "\n")
    new.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find_running(home: Path) -> RunningGraycat | None:
    """Return the ``graycat up`` that runs with this home; None if none does.

    What a killed one has left there does not count: the kernel has taken its lock back. Nor does what another user has
    written there: commands send their API token to this address.
    """
    try:
        told = json.loads(_read_own(home / ADDRESS))
        ports = {str(name): int(port) for name, port in told.get("ports", {}).items()}
        running = RunningGraycat(pid=int(told["pid"]), url=str(told["url"]), ports=ports)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    if running.url and not running.url.startswith("http://"):
        return None
    return running if is_locked(home) else None


def _read_own(path: Path) -> bytes:
    """Return a short file of this user's or of root's. Raises OSError, also for a link or a pipe; ValueError."""
    # Without O_NONBLOCK, a pipe would wait here for somebody who writes into it.
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (os.geteuid(), ROOT_USER):
            raise PermissionError(f"{path} is not a file of this user")
        text = file.read(MAX_ADDRESS_BYTES + 1)
    if len(text) > MAX_ADDRESS_BYTES:
        raise ValueError(f"{path} is longer than any address")
    return text


def ports_of(settings: Settings) -> dict[str, int]:
    """Return all ports of settings, by the variables that set them."""
    return {variable_of(setting): getattr(settings, setting.name) for setting in fields(settings) if is_port(setting)}


def with_running_ports(settings: Settings, env: Mapping[str, str]) -> Settings:
    """Return the settings with the ports of the graycat that runs with this home, where ``env`` sets no others.

    A worker that is started beside it in another terminal then finds its engines. Raises SettingsError if a port
    of ``env`` is also one of that graycat's.
    """
    running = find_running(settings.home)
    if running is None:
        return settings
    changes: dict[str, Any] = {}
    for setting in fields(settings):
        name = variable_of(setting)
        if is_port(setting) and name in running.ports and name not in env:
            changes[setting.name] = running.ports[name]
    return replace(settings, **changes)


def configured_url(settings: Settings) -> str:
    """Return the URL at which this machine reaches a web server that was started with these settings."""
    host = settings.host
    if host in ("0.0.0.0", "::"):  # noqa: S104 (not bound, called)
        host = "127.0.0.1"
    if ":" in host:
        host = f"[{host}]"
    return f"http://{host}:{settings.port}"
