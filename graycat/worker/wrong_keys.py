"""Keys of graycat's that hold another type than graycat writes: moved aside, so that the service is whole again.

Each command on such a key fails, for ever and for everybody: no task can be accepted if ``graycat:live`` is a string.
What was in the key is lost already; who has written over it finds its own value under ``graycat:wrong-type:KEY`` for a
week.
"""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlsplit

import redis

from graycat.broker import keys
from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker
from graycat.broker.quarantine import set_aside_key
from graycat.settings import Settings

#: The keys that all share, and their types.
TYPES = {
    keys.LIVE_TASKS: "zset",
    keys.FLEET: "zset",
    keys.DELIVERIES: "zset",
    keys.LIVE_BATCHES: "zset",
    keys.BATCHES: "zset",
    keys.TURNS: "set",
    keys.PAUSED_QUEUES: "set",
    keys.SCHEDULES: "set",
    keys.MEANS: "hash",
    keys.PROCESSES: "hash",
    keys.API_TOKENS: "hash",
    keys.API_TOKENS_USED: "hash",
    keys.BATCH_FOLDERS: "hash",
    keys.BATCH_THROUGHPUT: "hash",
    keys.FAILURES: "stream",
    keys.QUARANTINE: "list",
}


def may_move(settings: Settings) -> bool:
    """Return whether this process is to look for such keys: it uses the broker as its default user.

    A user with a name is one of a box, who may not rename keys. Each refusal would be an entry in the broker's ACL log.
    """
    return urlsplit(settings.broker_url).username in (None, "", "default")


def move_wrong_keys(client: Broker) -> list[str]:
    """Rename the keys whose type is wrong; return their names. Raises BrokerUnavailable.

    A user of a box may not do that: the control worker beside the broker does.
    """
    moved = []
    with broker_errors(), suppress(redis.exceptions.NoPermissionError):
        with client.pipeline(transaction=False) as pipe:
            for key in TYPES:
                pipe.type(key)
            found = pipe.execute()
        for (key, wanted), actual in zip(TYPES.items(), found, strict=True):
            # All types are read at once; one that is right costs no further command.
            if actual.decode() not in (wanted, "none") and set_aside_key(client, "wrong keys", key, wanted):
                moved.append(key)
    return moved
