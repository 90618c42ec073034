"""The broker user of a worker on another machine: it may do the worker's own work, and nothing else.

The names are those of ``broker/keys.py``, of the scripts (``*/lua/*.lua``) and of kombu's Redis transport. The rules
are those of ``ACL SETUSER``. The broker checks the commands of a script as if its caller had sent them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import sha256

from graycat.broker.keys import PREFIX, sweeper_lock_key, web_channel
from graycat.errors import SettingsError
from graycat.families import FAMILIES, EngineFamily
from graycat.queue import topology
from graycat.queue.redelivery import unacked_keys
from graycat.queue.topology import CONTROL

#: A box's name becomes a part of patterns and addresses.
_BOX_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)

_CONNECTION_COMMANDS = ("ping", "hello", "select", "client|setname", "time")
_TRANSACTION_COMMANDS = ("multi", "exec", "discard", "watch", "unwatch")
#: Scripts are loaded at home. A box asks whether those of its version are there.
_SCRIPT_COMMANDS = ("evalsha", "script|exists")
_STRING_COMMANDS = ("get", "mget", "set", "getrange", "setrange", "incr", "incrby", "decr")
_KEY_COMMANDS = ("exists", "del", "expire", "pexpire", "persist")
_HASH_COMMANDS = (
    "hget",
    "hmget",
    "hgetall",
    "hkeys",
    "hvals",
    "hlen",
    "hstrlen",
    "hexists",
    "hset",
    "hsetnx",
    "hincrby",
    "hdel",
)
_LIST_COMMANDS = ("lpush", "rpush", "lpop", "rpop", "brpop", "lrem", "lrange", "llen", "ltrim")
_SET_COMMANDS = ("sadd", "srem", "smembers")
_SORTED_SET_COMMANDS = (
    "zadd",
    "zrem",
    "zrange",
    "zrevrangebyscore",
    "zcard",
    "zscore",
    "zrangebyscore",
    "zremrangebyscore",
)
_EVENT_COMMANDS = ("xadd", "xrange", "publish", "pubsub|numsub")
#: The commands of every worker, in scripts too. None of them lists names, so a worker reads only keys that it knows.
COMMANDS = (
    _CONNECTION_COMMANDS
    + _TRANSACTION_COMMANDS
    + _SCRIPT_COMMANDS
    + _STRING_COMMANDS
    + _KEY_COMMANDS
    + _HASH_COMMANDS
    + _LIST_COMMANDS
    + _SET_COMMANDS
    + _SORTED_SET_COMMANDS
    + _EVENT_COMMANDS
)
#: Keys of every worker; ``{p}`` is the prefix. Those of the hot path come first: the broker takes the first match.
SHARED_KEYS = (
    "~{p}live*",
    "~{p}turns",
    "~{p}means",
    "%R~{p}paused",
    "%W~{p}fleet",
    # Written for operators if a task fails.
    "%W~{p}failures",
    # Written for operators if an item cannot be read.
    "%W~{p}quarantine",
    # Replies to remote control. The operator's own reply queue is in the bindings.
    "%R~_kombu.binding.reply.celery.pidbox",
    "%W~*.reply.celery.pidbox",
    "~_kombu.binding.celery.pidbox",
    "~_kombu.binding_permanent.celery.pidbox",
    "~_kombu.binding_deadlines",
)
#: Keys of the tasks of one family of engines, whose ids begin with digits of their own.
TASK_KEYS = (
    "~{p}task:{ids}",
    "~{p}events:{ids}",
)
#: Keys of one family: its workers note there which tasks home is to look at for webhooks.
FAMILY_KEYS = ("%W~{p}changed:{family}",)
#: Keys of one kind of worker.
KIND_KEYS = ("~unacked:{kind}", "~unacked_index:{kind}", "~unacked_mutex:{kind}", "~{p}sweeping:{kind}")
#: Keys of the round robin of a queue.
TURN_KEYS = (
    "~{p}turn:*?{queue}",
    "~{p}aside:*?{queue}",
    "~{p}owners:{queue}",
    "~{p}asides:{queue}",
    "~{p}dead:{queue}",
)
#: Keys of a queue; ``{queue}`` is also a queue of one model or worker.
QUEUE_KEYS = (
    "~{queue}",
    *TURN_KEYS,
    "~_kombu.binding.{queue}",
    "~_kombu.binding_permanent.{queue}",
)
#: Keys of a worker, by its name.
WORKER_KEYS = ("~{p}worker:{name}", "~{p}catalog:{name}", "~{name}.celery.pidbox")
#: Keys of the files that the engines of a family make, by the ids of its tasks.
ARTIFACT_KEYS = ("%W~{p}preview:{ids}", "~{p}artifacts:{ids}", "%W~{p}artifact:{ids}")
#: Keys that only the control worker uses, for deliveries, batches (with what engines have and do), schedules and usage.
CONTROL_KEYS = (
    "~{p}hooks",
    "~{p}hook:*",
    "~{p}changed:*",
    "~{p}deliveries",
    "~{p}delivery:*",
    "~{p}receiver:*",
    "~{p}sender:*",
    "~{p}batch*",
    # It ends what revoked API tokens have left.
    "~{p}tokens:ends",
    "~{p}usage:*",
    "~{p}fleet",
    "%R~{p}worker:*",
    "%R~{p}catalog:*",
    "~{p}artifacts:*",
    "~{p}artifact:*",
    "~{p}stored",
    "~{p}stored:charges",
    "~{p}schedule:*",
    "~{p}schedules",
    "~{p}schedules:*",
    "~_kombu.binding*.*celery.pidbox",
    "~_kombu.binding*.*celeryev",
)
#: What the control worker does with the queues of other kinds, to enqueue lost tasks again.
SWEEP_COMMANDS = ("lrange", "llen", "lpush")


def worker_rules(box: str, kinds: Sequence[str], db: int = 0) -> list[str]:
    """Return the rules of a user for the workers of some kinds on one box, without a password.

    The workers are called ``KIND@BOX``, those of a GPU ``KIND@BOX-gpuN``. Raises SettingsError for an unusable name.
    """
    if not _BOX_NAME.fullmatch(box) or box == "default":
        raise SettingsError(f"{box!r} cannot be a box's name: use 1 to 64 letters, digits, '.', '_' and '-'")
    rules = ["-@all"]
    rules += [f"+{command}" for command in COMMANDS]
    for pattern in _list_keys(box, kinds):
        rule = pattern.replace("{p}", PREFIX)
        if rule not in rules:
            rules.append(rule)
    # Events and replies to web processes. The worker may publish to these channels, but not subscribe to them.
    rules += [f"&{channel}" for channel in _list_web_channels(kinds)]
    rules += [f"&/{db}.celeryev", f"&/{db}.celeryev/*"]
    # Remote control comes over a channel that the worker may only subscribe to.
    subscribe = "+subscribe +unsubscribe +psubscribe +punsubscribe"
    rules.append(f"(-@all {subscribe} resetchannels &/{db}.celery.pidbox)")
    if CONTROL in kinds:
        # No box: a machine of the operator's, which loads scripts as web processes do. It creates the tasks of batches,
        # and so asks whether the broker is full.
        rules += ["+script|load", "+info", _sweep_rule()]
    return rules


def setuser(user: str, password: str, rules: Iterable[str], *, hashed: bool = False) -> str:
    """Return the command that replaces the user; ``hashed``: with the hash of the password in place of it."""
    secret = f">{password}"
    if hashed:
        secret = f"#{sha256(password.encode()).hexdigest()}"
    return " ".join(("ACL SETUSER", user, "reset", "on", secret, *rules))


def _list_keys(box: str, kinds: Sequence[str]) -> list[str]:
    """Return the patterns of all keys that workers of some kinds on one box use."""
    families = _list_families(kinds)
    # The control worker sweeps the tasks of all families.
    ids = ["*"] if CONTROL in kinds else [family.id_pattern for family in families]
    keys = _fill(TASK_KEYS, "ids", ids)
    keys += SHARED_KEYS
    keys += _fill(FAMILY_KEYS, "family", [family.name for family in families])
    keys += _fill(KIND_KEYS, "kind", kinds)
    for kind in kinds:
        keys += _fill_queues(QUEUE_KEYS, kind)
    for kind in kinds:
        keys += _fill(WORKER_KEYS, "name", (f"{kind}@{box}", f"{kind}@{box}-gpu*"))
    for family in families:
        if family.makes_artifacts:
            keys += _fill(ARTIFACT_KEYS, "ids", [family.id_pattern])
    if CONTROL in kinds:
        for family in FAMILIES:
            keys += (f"~{family.batch}", f"~{family.batch}:*")
        keys += CONTROL_KEYS
        keys += _list_swept_keys()
    return keys


def _list_web_channels(kinds: Sequence[str]) -> list[str]:
    """Return the patterns of the channels to web processes; the control worker ends tasks of all families."""
    families: Sequence[EngineFamily] = FAMILIES if CONTROL in kinds else _list_families(kinds)
    return [web_channel(family.name, "*") for family in families]


def _list_families(kinds: Sequence[str]) -> list[EngineFamily]:
    """Return the families of engines that workers of some kinds serve, each once."""
    families: list[EngineFamily] = []
    for kind in kinds:
        family = topology.WORKER_KINDS[kind].family
        if family is not None and family not in families:
            families.append(family)
    return families


def _list_swept_keys() -> list[str]:
    """Return the patterns of what the control worker uses of the kinds for which it sweeps, except the queues."""
    kinds = _list_swept_kinds()
    keys = []
    for kind in ("", *kinds):
        keys.append(f"%R~{unacked_keys(kind)['unacked_key']}")
    keys.append(f"%R~{unacked_keys('')['unacked_index_key']}")
    for kind in kinds:
        keys.append(f"%W~{sweeper_lock_key(kind)}")
    for kind in kinds:
        keys += _fill_queues(TURN_KEYS, kind)
    return keys


def _list_swept_kinds() -> list[str]:
    return [kind for kind in topology.WORKER_KINDS if kind != CONTROL]


def _sweep_rule() -> str:
    """Return the rule for the queues of the kinds for which the control worker sweeps."""
    words = ["-@all"]
    words += [f"+{command}" for command in SWEEP_COMMANDS]
    for kind in _list_swept_kinds():
        words += _fill_queues(("~{queue}",), kind)
    return f"({' '.join(words)})"


def _fill_queues(patterns: Iterable[str], kind: str) -> list[str]:
    """Return patterns for each queue of a kind, and for its queues of one model or worker."""
    queues: list[str] = []
    for queue in topology.WORKER_KINDS[kind].queues:
        queues += (queue, f"{queue}:*")
    return _fill(patterns, "queue", queues)


def _fill(patterns: Iterable[str], field: str, values: Iterable[str]) -> list[str]:
    """Return each pattern with each value in the place of ``{field}``."""
    return [pattern.replace(f"{{{field}}}", value) for value in values for pattern in patterns]
