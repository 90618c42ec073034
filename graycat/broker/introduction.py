"""How connections of ours introduce themselves to the broker: not at all."""

from __future__ import annotations

from importlib.util import find_spec


def no_introduction() -> dict[str, None]:
    """Return the options of a connection that does not tell the broker the client library's name and version.

    That command (``CLIENT SETINFO``) is unknown to Redis 7.0, where no rule for a box's user can allow it.
    """
    if find_spec("redis.driver_info"):
        return {"driver_info": None}
    return {"lib_name": None, "lib_version": None}


#: For each connection of ours, and of kombu's.
NO_INTRODUCTION = no_introduction()
