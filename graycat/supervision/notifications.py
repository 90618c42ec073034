"""What supervised processes say of themselves: the other end of ``graycat.loops.readiness``."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from graycat.loops.readiness import PROGRESS_FIELD

#: A longer message is cut.
MAX_MESSAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Notification:
    """One message of a process."""

    #: Whether it says that the process does its work; else the process waits for what ``text`` says.
    ready: bool
    text: str = ""
    #: How far that is, from 0 to 1; None if it is not known.
    progress: float | None = None


class NotifySocket:
    """Receives the messages of one process, in order. Only this user's processes reach it: its folder is private."""

    def __init__(self, path: Path) -> None:
        """Raises OSError if the socket cannot be made."""
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))

    def receive(self) -> list[Notification]:
        """Return the messages since the last call; never waits."""
        found = []
        with suppress(BlockingIOError):
            while True:
                found.append(parse(self._socket.recv(MAX_MESSAGE_BYTES)))
        return found

    def close(self) -> None:
        """Remove the socket."""
        self._socket.close()
        self.path.unlink(missing_ok=True)


def parse(message: bytes) -> Notification:
    """Return what a message says; fields of no interest here are passed over."""
    fields: dict[str, str] = {}
    for line in message.decode(errors="replace").splitlines():
        name, _, value = line.partition("=")
        fields[name] = value
    progress = None
    with suppress(KeyError, ValueError):
        progress = max(0.0, min(1.0, float(fields[PROGRESS_FIELD])))
    return Notification(fields.get("READY") == "1", fields.get("STATUS", ""), progress)
