"""The broker user of a control worker on another machine of the operator's: no box's, so nearly one rule for all."""

from __future__ import annotations

from graycat.broker.keys import PREFIX
from graycat.families import FAMILIES
from graycat.queue import topology
from graycat.queue.redelivery import unacked_keys
from graycat.queue.topology import CONTROL

COMMANDS = (
    *(
        "get",
        "mget",
        "set",
        "getrange",
        "setrange",
        "incr",
        "incrby",
        "decr",
        "exists",
        "del",
        "expire",
        "pexpire",
        "pttl",
        "persist",
    ),
    *("hget", "hmget", "hgetall", "hkeys", "hvals", "hlen", "hstrlen", "hexists", "hset", "hsetnx", "hincrby", "hdel"),
    *("lpush", "rpush", "lpop", "rpop", "brpop", "lrem", "lrange", "llen", "ltrim"),
    *("sadd", "srem", "smembers", "scard", "zadd", "zrem", "zrange", "zrevrangebyscore", "zcard", "zscore"),
    *("zrangebyscore", "zremrangebyscore", "xadd", "xrange", "xrevrange", "watch", "evalsha", "publish"),
)
#: Keys behind the prefix: tasks of all families, what is noted of them, deliveries, batches, schedules, its report.
KEYS = (
    *("~task:*", "~events:*", "~live.*", "~players.*", "~turns.*", "~turn.*", "~aside.*", "~owners:*", "~asides:*"),
    *("~dead:*", "~means.*", "%R~paused", "~fleet.*", "%W~failures.*", "%W~quarantine.*", "~sweeping:*"),
    *("~hooks", "~hook:*", "~changed:*", "~deliveries", "~delivery:*", "~receiver:*", "~sender:*", "~batch*"),
    *("%R~worker:*", "%R~catalog:*", "~artifacts:*", "~artifact:*", "~stored", "~stored:charges"),
    # It ends what revoked API tokens have left.
    *("~tokens:ends", "~usage:*"),
    *("~schedule:*", "~schedules", "~schedules:*"),
)
#: Those of kombu.
CELERY_KEYS = (
    *("~unacked:control", "~unacked_index:control", "~unacked_mutex:control", "~control", "~_kombu.binding*control"),
    *("~_kombu.binding*.*celery.pidbox", "~_kombu.binding*.*celeryev", "~_kombu.binding_deadlines"),
    "%W~*.reply.celery.pidbox",
)
#: What it does with the queues of engines, to enqueue lost tasks again.
SWEEP_COMMANDS = ("lrange", "llen", "lpush")


def control_rules(box: str, db: int) -> list[str]:
    """Return the rules of the control workers of one machine, beside those of every user."""
    name = f"{CONTROL}@{box}"
    keys = [pattern.replace("~", f"~{PREFIX}", 1) for pattern in KEYS]
    keys += CELERY_KEYS
    for pattern in (f"{PREFIX}worker:", f"{PREFIX}catalog:"):
        keys.append(f"~{pattern}{name}")
    keys.append(f"~{name}.celery.pidbox")
    sweeps = []
    for kind in ("", *topology.WORKER_KINDS):
        keys.append(f"%R~{unacked_keys(kind)['unacked_key']}")
        if kind != CONTROL:
            for queue in () if not kind else topology.WORKER_KINDS[kind].queues:
                sweeps += [f"~{queue}", f"~{queue}:*"]
    keys.append(f"%R~{unacked_keys('')['unacked_index_key']}")
    for family in FAMILIES:
        # It makes the tasks of batches.
        keys += [f"~{family.batch}", f"~{family.batch}:*"]
    channels = (f"&{PREFIX}web:*", f"&/{db}.celeryev", f"&/{db}.celeryev/*")
    return [
        # It loads scripts as web processes do, and asks whether the broker is full.
        "+script|load",
        "+info",
        _selector(COMMANDS, (*keys, "resetchannels", *channels)),
        _selector(SWEEP_COMMANDS, sweeps),
        _selector(
            ("subscribe", "unsubscribe", "psubscribe", "punsubscribe"), ("resetchannels", f"&/{db}.celery.pidbox")
        ),
    ]


def _selector(commands: tuple[str, ...], patterns: tuple[str, ...] | list[str]) -> str:
    words = [f"+{command}" for command in commands]
    return f"({' '.join((*words, *patterns))})"
