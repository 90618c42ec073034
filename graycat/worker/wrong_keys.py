"""Keys of graycat's that another program has written over: moved aside, so that the service is whole again.

Each command on such a key fails, for ever and for everybody: no task can be accepted if ``graycat:live`` is a string.
What was in the key is lost already; who has written over it finds its own value under ``graycat:wrong-type:KEY`` for a
week. The same is done with a lock that never expires: the duty that waits for it would not be done by anybody.
"""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlsplit

import redis

from graycat.broker import keys
from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker
from graycat.broker.quarantine import may_expire, set_aside_key, set_aside_lock
from graycat.queue import topology
from graycat.queue.redelivery import unacked_keys
from graycat.settings import Settings

#: The kinds of workers, each of which has its own unacknowledged messages; '' is a worker of no kind.
_KINDS = ("", *topology.WORKER_KINDS)


def _types_by_queue() -> dict[str, str]:
    """Return graycat's own keys of each shared queue, and their types."""
    types = {}
    for queue in topology.QUEUES:
        types[keys.owners_key(queue)] = "zset"
        types[keys.parked_count_key(queue)] = "string"
        types[keys.dead_messages_key(queue)] = "string"
    return types


def _types_of_kombu() -> dict[str, str]:
    """Return the keys that kombu shares between processes, and their types."""
    types = {"_kombu.binding_deadlines": "zset"}
    for kind in _KINDS:
        names = unacked_keys(kind)
        types |= {names["unacked_key"]: "hash", names["unacked_index_key"]: "zset"}
    for queue in topology.QUEUES:
        types[queue] = "list"
    for exchange in (*topology.QUEUES, "celery.pidbox", "reply.celery.pidbox"):
        types |= {f"_kombu.binding.{exchange}": "set", f"_kombu.binding_permanent.{exchange}": "set"}
    return types


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
    keys.BATCH_TURN: "string",
    keys.FIRED_AT: "string",
    **_types_by_queue(),
    **_types_of_kombu(),
}
#: The locks that let one process at a time do a duty.
LOCKS = (
    keys.FIRING,
    keys.BATCH_RUNNER_LOCK,
    keys.BEAT_LOCK,
    *(keys.sweeper_lock_key(kind) for kind in topology.WORKER_KINDS),
    *(unacked_keys(kind)["unacked_mutex_key"] for kind in _KINDS),
)


def may_move(settings: Settings) -> bool:
    """Return whether this process is to look for such keys: it uses the broker as its default user.

    A user with a name is one of a box, who may not rename keys. Each refusal would be an entry in the broker's ACL log.
    """
    return urlsplit(settings.broker_url).username in (None, "", "default")


def move_wrong_keys(client: Broker) -> list[str]:
    """Rename the keys whose type is wrong, and the locks that never end; return their names. Raises BrokerUnavailable.

    A user of a box may not do that: the control worker beside the broker does.
    """
    moved = []
    with broker_errors(), suppress(redis.exceptions.NoPermissionError):
        # All are read at once; one that is right costs no further command.
        with client.pipeline(transaction=False) as pipe:
            for key in TYPES:
                pipe.type(key)
            for key in LOCKS:
                pipe.pttl(key)
            found = pipe.execute()
        for (key, wanted), actual in zip(TYPES.items(), found[: len(TYPES)], strict=True):
            if actual.decode() not in (wanted, "none") and set_aside_key(client, "wrong keys", key, wanted):
                moved.append(key)
        for key, ttl_ms in zip(LOCKS, found[len(TYPES) :], strict=True):
            if not may_expire(ttl_ms) and set_aside_lock(client, "wrong keys", key):
                moved.append(key)
    return moved
