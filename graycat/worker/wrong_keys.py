"""Keys of graycat's that hold another type than graycat writes: moved aside, so that the service is whole again.

Each command on such a key fails, for ever and for everybody: no task can be accepted if ``graycat:live`` is a string.
What was in the key is lost already; who has written over it finds its own value under ``graycat:wrong-type:KEY`` for a
week.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from urllib.parse import urlsplit

import redis

from graycat.broker import keys
from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker
from graycat.broker.quarantine import TTL_S
from graycat.settings import Settings
from graycat.unexpected import UNEXPECTED

logger = logging.getLogger(__name__)

#: The keys that all share, and their types.
TYPES = {
    keys.LIVE_TASKS: b"zset",
    keys.FLEET: b"zset",
    keys.DELIVERIES: b"zset",
    keys.LIVE_BATCHES: b"zset",
    keys.BATCHES: b"zset",
    keys.TURNS: b"set",
    keys.PAUSED_QUEUES: b"set",
    keys.SCHEDULES: b"set",
    keys.MEANS: b"hash",
    keys.PROCESSES: b"hash",
    keys.API_TOKENS: b"hash",
    keys.API_TOKENS_USED: b"hash",
    keys.BATCH_FOLDERS: b"hash",
    keys.BATCH_THROUGHPUT: b"hash",
    keys.FAILURES: b"stream",
    keys.QUARANTINE: b"list",
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
            if actual in (wanted, b"none"):
                continue
            client.rename(key, keys.wrong_type_key(key))
            client.pexpire(keys.wrong_type_key(key), TTL_S * 1000)
            moved.append(key)
            UNEXPECTED.labels("wrong keys").inc()
            logger.error("key of the wrong type moved aside", extra={"key": key, "type": actual.decode()})
    return moved
