"""Tells whoever supervises this process whether it does its work, and what it waits for: systemd's sd_notify(3).

``graycat up`` listens. Other supervisors mostly do not: then the functions return False, and the log says it.
"""

from __future__ import annotations

import socket
from functools import cache

from graycat.settings import take_notify_socket

#: Seconds that a message may take if the supervisor is behind with its reading.
SEND_TIMEOUT_S = 1.0
#: The field of a message that says how far something is (0 to 1). Names that begin with X_ are nobody else's.
PROGRESS_FIELD = "X_GRAYCAT_PROGRESS"


def tell_ready(text: str = "") -> bool:
    """Tell that this process does its work, or does it again; return whether anybody listens. ``text``: details."""
    return _send({"READY": "1", "STATUS": text})


def tell_wait(text: str, progress: float | None = None) -> bool:
    """Tell what this process waits for; return whether anybody listens. ``progress``: 0 to 1, if it is known."""
    fields = {"STATUS": text}
    if progress is not None:
        fields[PROGRESS_FIELD] = f"{progress:.3f}"
    return _send(fields)


def is_heard() -> bool:
    """Return whether a supervisor listens."""
    return bool(_address())


@cache
def _address() -> str:
    address = take_notify_socket()
    if address.startswith("@"):
        # Linux' abstract sockets.
        return "\0" + address[1:]
    return address


def _send(fields: dict[str, str]) -> bool:
    if not is_heard():
        return False
    message = "\n".join(f"{name}={_one_line(value)}" for name, value in fields.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(SEND_TIMEOUT_S)
            sender.sendto(message.encode(errors="replace"), _address())
    except OSError:
        # The supervisor is gone, or about to stop everything.
        return False
    return True


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())
