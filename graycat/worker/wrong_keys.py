"""Keys of graycat's that hold another type than graycat writes: moved aside, so that the service is whole again.

Each command on such a key fails, for ever and for everybody: no task can be accepted if ``graycat:live`` is a string.
A web process moves those that a request meets (``web/errors.py``).
"""

from __future__ import annotations

import redis

from graycat.broker import keys
from graycat.broker.client import broker_errors
from graycat.broker.protocol import Broker
from graycat.broker.wrong_types import is_wrong_type, move_aside
from graycat.loops.unexpected import guarded
from graycat.queue.key_types import queue_types
from graycat.queue.redelivery import unacked_types
from graycat.queue.topology import QUEUES, WORKER_KINDS

#: The keys that all share, and their types.
TYPES: dict[str, str] = {
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


#: Counters and locks that all share.
_STRINGS = (
    keys.BATCH_TURN,
    keys.BATCH_RUNNER_LOCK,
    keys.FIRING,
    keys.FIRED_AT,
    *(keys.sweeper_lock_key(kind) for kind in WORKER_KINDS),
)
TYPES |= dict.fromkeys(_STRINGS, "string")
for _queue in QUEUES:
    TYPES |= queue_types(_queue)
for _kind in ("", *WORKER_KINDS):
    TYPES |= unacked_types(_kind)


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
    try:
        with broker_errors():
            names = client.smembers(keys.TURNS)
    except redis.ResponseError as error:
        if not is_wrong_type(error):
            raise
        # It is about to be moved.
        return []
    for name in names:
        with guarded("wrong keys"):
            queues.append(name.decode())
    return queues
