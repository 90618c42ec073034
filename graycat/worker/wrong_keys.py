"""Keys of graycat's that hold another type than graycat writes: moved aside, so that the service is whole again.

Each command on such a key fails, for ever and for everybody: no text can be made if ``graycat:live.llm`` is a string.
A web process moves those that a request meets (``web/errors.py``).
"""

from __future__ import annotations

import re

import redis

from graycat.broker import keys
from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker
from graycat.broker.wrong_types import is_wrong_type, move_aside
from graycat.families import FAMILIES
from graycat.loops.unexpected import guarded
from graycat.queue.key_types import queue_types
from graycat.queue.redelivery import unacked_keys, unacked_types
from graycat.queue.topology import QUEUES, WORKER_KINDS

#: The keys that all share, and their types.
TYPES: dict[str, str] = {
    keys.DELIVERIES: "zset",
    keys.HOOKS: "zset",
    keys.LIVE_BATCHES: "zset",
    keys.UNCOUNTED: "zset",
    keys.BATCHES: "zset",
    keys.PAUSED_QUEUES: "set",
    keys.SCHEDULES: "set",
    keys.STORED: "hash",
    keys.STORED_CHARGES: "zset",
    keys.PROCESSES: "hash",
    keys.API_TOKENS: "hash",
    keys.API_TOKENS_USED: "hash",
    keys.REVOKED_TOKENS: "zset",
    keys.TOKEN_ENDS: "zset",
    keys.BATCH_FOLDERS: "hash",
    keys.BATCH_THROUGHPUT: "hash",
}
for _family in FAMILIES:
    TYPES[keys.live_key(_family.name)] = "zset"
    TYPES[keys.means_key(_family.name)] = "hash"
    TYPES[keys.needs_key(_family.name)] = "hash"
    TYPES[keys.turns_key(_family.name)] = "set"
for _share in keys.SHARES:
    TYPES[keys.fleet_key(_share)] = "zset"
    TYPES[keys.failures_key(_share)] = "stream"
    TYPES[keys.quarantine_key(_share)] = "list"


#: Locks that all share. Each of ours expires, within seconds.
LOCKS = (
    keys.BATCH_RUNNER_LOCK,
    keys.FIRING,
    keys.BEAT_LOCK,
    *(keys.sweeper_lock_key(kind) for kind in WORKER_KINDS),
    *(unacked_keys(kind)["unacked_mutex_key"] for kind in ("", *WORKER_KINDS)),
)
TYPES |= dict.fromkeys((*LOCKS, keys.BATCH_TURN, keys.FIRED_AT), "string")
for _queue in QUEUES:
    TYPES |= queue_types(_queue)
for _family in FAMILIES:
    TYPES[keys.changed_key(_family.name)] = "zset"
for _kind in ("", *WORKER_KINDS):
    TYPES |= unacked_types(_kind)
#: What kombu writes for each exchange.
TYPES["_kombu.binding_deadlines"] = "zset"
for _exchange in (*QUEUES, "celery.pidbox", "reply.celery.pidbox"):
    TYPES[f"_kombu.binding.{_exchange}"] = "set"
    TYPES[f"_kombu.binding_permanent.{_exchange}"] = "set"
#: What PTTL replies for a key that never expires, and the most for a lock whose owner is alive.
NO_EXPIRY, LONGEST_LOCK_MS = -1, 3600 * 1000
_NUMBER = re.compile(rb"[0-9]{1,15}")


def move_wrong_keys(client: Broker) -> list[str]:
    """Rename the keys whose type is wrong; return their names. Raises BrokerUnavailable.

    A user of a box may not do that: the control worker beside the broker does.
    """
    types = dict(TYPES)
    for queue in _read_turns(client):
        types |= queue_types(queue)
    return move_aside(client, types)


def _read_turns(client: Broker) -> list[str]:
    """Return the queues in which owners have turns, those of models and workers among them."""
    queues = []
    for family in FAMILIES:
        try:
            with broker_errors():
                names = client.smembers(keys.turns_key(family.name))
        except redis.ResponseError as error:
            if not is_wrong_type(error):
                raise
            # It is about to be moved.
            continue
        for name in names:
            with guarded("wrong keys"):
                queues.append(name.decode())
    return queues


def move_foreign_locks(client: Broker) -> list[str]:
    """Rename the locks that never expire, or much later than ours; return their names. Raises BrokerUnavailable.

    Another program has written them: what such a lock guards would never be done again.
    """
    with broker_errors(), client.pipeline(transaction=False) as pipe:
        for key in LOCKS:
            pipe.pttl(key)
        found = pipe.execute()
    foreign = []
    for key, left_ms in zip(LOCKS, found, strict=True):
        if left_ms == NO_EXPIRY or left_ms > LONGEST_LOCK_MS:
            foreign.append(key)
    # Of whatever type they are.
    return move_aside(client, dict.fromkeys(foreign, "none"))


def mend_batch_turn(client: Broker) -> None:
    """Set the number of the batches' last turn anew if it is none, or gone. Raises BrokerUnavailable.

    No batch could end its turn without it, and one with a low number would come before all others.
    """
    with broker_errors():
        text = client.get(keys.BATCH_TURN)
        if text is not None and _NUMBER.fullmatch(text):
            return
        last = 0
        for _, turn in client.zrange(keys.LIVE_BATCHES, -1, -1, withscores=True):
            last = int(turn)
        # If it is gone, another process may begin it meanwhile.
        client.set(keys.BATCH_TURN, last, nx=text is None)
