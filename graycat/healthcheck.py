"""Asks processes of this machine how they are: ``python -m graycat.healthcheck 9840 9860``, a container's health check.

It imports next to nothing: it runs every few seconds in each container. Each argument is a port, with a path if that is
not ``/health``; or ``flower``, which is asked with its password.
"""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException

#: Seconds that each process gets for its answer.
TIMEOUT_S = 3.0
#: What is read of an answer.
MAX_READ_BYTES = 2000
FLOWER = "flower"


def flower_target() -> tuple[str, dict[str, str]]:
    """Return where this machine's Flower is, and the headers that it wants."""
    from graycat.settings import Settings

    settings = Settings.from_env()
    login = b64encode(f"graycat:{settings.flower_password}".encode()).decode()
    return f"{settings.flower_port}/healthcheck", {"Authorization": f"Basic {login}"}


def ask(target: str) -> str:
    """Return what is wrong with the process behind a target (``9840``, ``8000/health/web``); '' if nothing is."""
    headers: Mapping[str, str] = {}
    if target == FLOWER:
        target, headers = flower_target()
    port, slash, path = target.partition("/")
    connection = HTTPConnection("127.0.0.1", int(port), timeout=TIMEOUT_S)
    try:
        connection.request("GET", slash + path or "/health", headers=headers)
        reply = connection.getresponse()
        text = reply.read(MAX_READ_BYTES).decode(errors="replace").strip()
    except (OSError, HTTPException) as error:
        return f"{target}: no answer ({type(error).__name__})"
    finally:
        connection.close()
    if reply.status == 200:
        return ""
    return f"{target}: {reply.status} {text}"


def main(targets: Sequence[str]) -> int:
    """Ask each target; print what is wrong. Returns the exit status: 0 if all are well."""
    wrong = list(filter(None, map(ask, targets)))
    for line in wrong:
        sys.stdout.write(f"{line}\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
