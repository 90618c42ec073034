"""What a worker on somebody else's machine may do with the broker: its own work, and nothing beside it.

Names come from the stores, the scripts (``*/lua/*.lua``) and kombu's Redis transport; the rules are those of
``ACL SETUSER``. A script's commands are checked as if its caller had sent them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import sha256

from graycat.broker.keys import PREFIX
from graycat.errors import SettingsError
from graycat.families import FAMILIES, EngineFamily
from graycat.queue import topology
from graycat.queue.topology import CONTROL

#: A name of a box goes into patterns and addresses as it is.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)

#: What every worker sends, by itself or in a script: none of these reads a name that it was not told.
COMMANDS = (
    *("ping", "hello", "select", "client|setinfo", "client|setname", "time"),
    *("multi", "exec", "discard", "watch", "unwatch", "evalsha", "script|load", "script|exists"),
    *("get", "mget", "set", "setrange", "incr", "incrby", "decr", "exists", "del", "expire", "pexpire", "persist"),
    *("hget", "hmget", "hgetall", "hkeys", "hvals", "hexists", "hset", "hsetnx", "hincrby", "hdel"),
    *("lpush", "rpush", "lpop", "rpop", "brpop", "lrem", "lrange", "llen", "ltrim"),
    *("sadd", "srem", "smembers", "zadd", "zrem", "zrange", "zrevrangebyscore", "zcard", "zscore"),
    *("zrangebyscore", "zremrangebyscore"),
    *("xadd", "xrange", "publish"),
)
#: Keys that every kind of worker uses; those of the hot path first, as the broker looks for one that fits.
SHARED = (
    *("~{p}live*", "~{p}turns", "~{p}means", "%R~{p}paused", "%W~{p}fleet", "%W~{p}deliveries"),
    # For operators, where it failed.
    "%W~{p}failures",
    # For operators, what could not be used.
    "%W~{p}quarantine",
    # Where it answers remote control; the operator's own list is in the bindings.
    *("%R~_kombu.binding.reply.celery.pidbox", "%W~*.reply.celery.pidbox"),
    *("~_kombu.binding.celery.pidbox", "~_kombu.binding_permanent.celery.pidbox", "~_kombu.binding_deadlines"),
)
#: Keys of the tasks of one family of kinds: their ids begin with digits of its own.
OF_FAMILY = (
    *("~{p}task:{ids}", "~{p}events:{ids}"),
    # What a task's end leaves for its webhook; only the control worker reads it.
    "%W~{p}delivery:{ids}",
)
#: Keys of one kind of worker.
OF_KIND = ("~unacked:{kind}", "~unacked_index:{kind}", "~unacked_mutex:{kind}", "~{p}sweeping:{kind}")
#: Keys of a queue, and of the turns in it; "{queue}" is also that of a model or a worker.
OF_QUEUE = (
    *("~{queue}", "~{p}turn:*?{queue}", "~{p}aside:*?{queue}", "~{p}owners:{queue}", "~{p}asides:{queue}"),
    *("~{p}dead:{queue}", "~_kombu.binding.{queue}", "~_kombu.binding_permanent.{queue}"),
)
#: Keys of a worker, by its name.
OF_WORKER = ("~{p}worker:{name}", "~{p}catalog:{name}", "~{name}.celery.pidbox")
#: Keys of the files that the engines of a family make, by the ids of its tasks.
OF_ARTIFACTS = ("%W~{p}preview:{ids}", "~{p}artifacts:{ids}", "%W~{p}artifact:{ids}")
#: Keys that only the control worker uses.
OF_CONTROL = (
    *("~{p}deliveries", "~{p}delivery:*", "~{p}receiver:*", "~{p}sender:*"),
    # Batches: their tasks and records, what engines have and are doing, and the images until they are files.
    *(pattern for family in FAMILIES for pattern in (f"~{family.batch}", f"~{family.batch}:*")),
    *("~{p}batch*", "~{p}fleet"),
    *("%R~{p}worker:*", "%R~{p}catalog:*", "~{p}artifacts:*", "~{p}artifact:*"),
    *("~{p}schedule:*", "~{p}schedules", "~{p}schedules:*"),
    *("~_kombu.binding*.*celery.pidbox", "~_kombu.binding*.*celeryev"),
)
#: What the control worker does with the queues of others: it puts back what was lost.
SWEEP = ("lrange", "llen", "lpush")
#: And with what else belongs to them.
_TURNS = tuple(pattern for pattern in OF_QUEUE if "{p}" in pattern)


def worker_rules(box: str, kinds: Sequence[str], db: int = 0) -> list[str]:
    """Return the rules of a user for the workers of some kinds on one box, but for its password.

    The workers are called ``KIND@BOX``, those of a GPU ``KIND@BOX-gpuN``. Raises SettingsError for an unusable name.
    """
    if not _NAME.fullmatch(box) or box == "default":
        raise SettingsError(f"{box!r} is no name for a box: 1 to 64 letters, digits, '.', '_' and '-'")
    names = [f"{kind}@{box}{gpu}" for kind in kinds for gpu in ("", "-gpu*")]
    keys = [
        *_filled(OF_FAMILY, "ids", _ids(kinds)),
        *SHARED,
        *_filled(OF_KIND, "kind", kinds),
        *(pattern for kind in kinds for pattern in _of_queues(OF_QUEUE, kind)),
        *_filled(OF_WORKER, "name", names),
        *_artifacts(kinds),
        *((*OF_CONTROL, *_others()) if CONTROL in kinds else ()),
    ]
    # Commands for workers go by a channel that workers only hear, and answers and events by others that they do not.
    channels = (f"&{PREFIX}web:*", f"&/{db}.celeryev", f"&/{db}.celeryev/*")
    hears = f"(-@all +subscribe +unsubscribe +psubscribe +punsubscribe resetchannels &/{db}.celery.pidbox)"
    commands = (f"+{command}" for command in COMMANDS)
    sweeps = [_sweeping()] if CONTROL in kinds else []
    rules = ["-@all", *commands, *dict.fromkeys(key.replace("{p}", PREFIX) for key in keys), *channels, hears]
    return rules + sweeps


def setuser(user: str, password: str, rules: Iterable[str], *, hashed: bool = False) -> str:
    """Return the command that makes the user anew; ``hashed``: without the password itself."""
    secret = f"#{sha256(password.encode()).hexdigest()}" if hashed else f">{password}"
    return " ".join(("ACL SETUSER", user, "reset", "on", secret, *rules))


def _filled(patterns: Iterable[str], field: str, values: Iterable[str]) -> list[str]:
    return [pattern.replace(f"{{{field}}}", value) for value in values for pattern in patterns]


def _ids(kinds: Sequence[str]) -> list[str]:
    """Return the patterns of the ids of tasks that workers of some kinds run; the control worker sweeps for all."""
    if CONTROL in kinds:
        return ["*"]
    return [family.id_pattern for family in _families(kinds)]


def _families(kinds: Sequence[str]) -> list[EngineFamily]:
    """Return the families of engines that workers of some kinds serve, each once."""
    found: list[EngineFamily] = []
    for kind in kinds:
        family = topology.WORKER_KINDS[kind].family
        if family is not None and family not in found:
            found.append(family)
    return found


def _artifacts(kinds: Sequence[str]) -> list[str]:
    patterns = [family.id_pattern for family in _families(kinds) if family.makes_artifacts]
    return _filled(OF_ARTIFACTS, "ids", patterns)


def _of_queues(patterns: Iterable[str], kind: str) -> list[str]:
    names = [name for queue in topology.WORKER_KINDS[kind].queues for name in (queue, f"{queue}:*")]
    return _filled(patterns, "queue", names)


def _others() -> list[str]:
    """Return what the control worker touches of the kinds for which it sweeps, but for the queues."""
    kinds = [kind for kind in topology.WORKER_KINDS if kind != CONTROL]
    return [
        *(f"%R~{topology.unacked(kind)['unacked_key']}" for kind in ("", *kinds)),
        *(f"%W~{PREFIX}sweeping:{kind}" for kind in kinds),
        *(pattern for kind in kinds for pattern in _of_queues(_TURNS, kind)),
    ]


def _sweeping() -> str:
    kinds = [kind for kind in topology.WORKER_KINDS if kind != CONTROL]
    queues = [key for kind in kinds for key in _of_queues(("~{queue}",), kind)]
    return f"(-@all {' '.join(f'+{command}' for command in SWEEP)} {' '.join(queues)})"
