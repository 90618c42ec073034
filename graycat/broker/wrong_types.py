"""Keys that hold another type than graycat writes: which error names one, and how it is moved aside.

What was in such a key is lost already. Who has written over it finds its own value under ``graycat:wrong-type:KEY`` for
a week.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import unquote, urlsplit

import redis

from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker
from graycat.broker.quarantine import set_aside_key
from graycat.settings import Settings

#: What ``broker/lua/types.lua`` raises.
_NAMED = re.compile(r"WRONGTYPE (zset|list|string|hash|set|stream) (\S+)", re.ASCII)


def may_move(settings: Settings) -> bool:
    """Return whether this process is to move such keys: it uses the broker as its default user.

    A user with a name is one of a box, who may not rename keys. Each refusal would be an entry in the broker's ACL log.
    """
    return urlsplit(settings.broker_url).username in (None, "", "default")


def is_wrong_type(error: Exception) -> bool:
    """Return whether an error says that a key is of another type than its command needs."""
    return isinstance(error, redis.ResponseError) and _reply_of(error).startswith("WRONGTYPE")


def named_key(error: redis.ResponseError) -> dict[str, str]:
    """Return the key that a script's error names, with the type that it should have; nothing if it names none."""
    found = _NAMED.match(_reply_of(error))
    if found is None:
        return {}
    wanted, name = found.groups()
    with suppress(UnicodeDecodeError):
        return {unquote(name, errors="strict"): wanted}
    return {}


def move_aside(client: Broker, types: Mapping[str, str]) -> list[str]:
    """Rename those keys whose type is not the wanted one; return their names. Raises BrokerUnavailable.

    A user of a box may not do that: the control worker beside the broker does.
    """
    moved = []
    with broker_errors(), suppress(redis.exceptions.NoPermissionError):
        with client.pipeline(transaction=False) as pipe:
            for key in types:
                pipe.type(key)
            found = pipe.execute()
        for (key, wanted), actual in zip(types.items(), found, strict=True):
            # All types are read at once; one that is right costs no further command.
            if actual.decode() not in (wanted, "none") and set_aside_key(client, "wrong keys", key, wanted):
                moved.append(key)
    return moved


def _reply_of(error: Exception) -> str:
    # redis-py puts the command before the reply if that was one of a pipeline. The command may quote anything.
    return str(error).rpartition("of pipeline caused error: ")[2]
