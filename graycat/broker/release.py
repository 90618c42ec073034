"""Releases of Valkey and Redis: how a server tells its own, and the oldest ones that graycat works with."""

from __future__ import annotations

from collections.abc import Mapping

#: The oldest releases that graycat's tests run with, by the name of the server.
OLDEST = {"valkey": (7, 2), "redis": (7, 0)}

#: The most digits of a number of a version.
MAX_DIGITS = 9


def oldest_release(name: str) -> tuple[int, ...]:
    """Return the oldest release of a server that graycat works with; an unknown server counts as Redis."""
    return OLDEST.get(name, OLDEST["redis"])


def server_release(info: Mapping[str, object]) -> tuple[str, str]:
    """Return a server's name and version, out of the section ``server`` of INFO."""
    # Valkey also gives the version of the Redis that it stands for.
    if "valkey_version" in info:
        return "valkey", str(info["valkey_version"])
    return str(info.get("server_name", "redis")), str(info.get("redis_version", "0"))


def parse_version(text: str) -> tuple[int, ...]:
    """Return the numbers of a version, up to the first part that is none: ``9.1.rc2`` is (9, 1)."""
    numbers = []
    for part in text.split("."):
        if not part.isdecimal() or len(part) > MAX_DIGITS:
            break
        numbers.append(int(part))
    return tuple(numbers)


def join_version(numbers: tuple[int, ...]) -> str:
    """Return numbers as a version: ``7.2``."""
    return ".".join(map(str, numbers))
