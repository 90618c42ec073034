"""The broker user of a worker on another machine: it may do the worker's own work, and nothing else.

The names are those of ``broker/keys.py``, of the scripts (``*/lua/*.lua``) and of kombu's Redis transport. The rules
are those of ``ACL SETUSER``. The broker checks the commands of a script as if its caller had sent them.

Each use has a rule of its own (a *selector*): some commands on some keys. Nearly all keys get the writing commands of
one type only, so a box cannot give a key that it shares with others another type. What it can still do stands in
docs/boxes.md, and tests/integration/test_hostile_box.py plays it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from graycat.broker.keys import PREFIX
from graycat.errors import SettingsError
from graycat.families import EngineFamily
from graycat.queue import topology
from graycat.queue.topology import CONTROL
from graycat.worker.control_acl import control_rules

#: A box's name becomes a part of patterns and addresses.
_BOX_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Use:
    """What a worker does with some keys or channels, and the commands that it needs for that.

    In patterns, ``{p}`` stands for the prefix of keys, ``{db}`` for the database; ``{family}``, ``{ids}`` (of its
    tasks), ``{kind}``, ``{queue}`` (its own, with those of models and workers) and ``{name}`` for what the user has.
    """

    why: str
    commands: str
    keys: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()

    def rules(self, values: Mapping[str, Sequence[str]]) -> str:
        """Return the selector of this use; its patterns once for each value of their field."""
        words = [f"+{command}" for command in self.commands.split()]
        for pattern in self.keys:
            words += _fill(pattern, values)
        if self.channels:
            words.append("resetchannels")
            for pattern in self.channels:
                words += [f"&{name}" for name in _fill(pattern, values)]
        return f"({' '.join(words)})"


#: No key, no channel: to connect, to send commands together, and to see which scripts home has loaded.
CONNECTION = "ping hello client|setname time multi exec discard unwatch script|exists pubsub|numsub"
#: Those of the hot path come first: the broker takes the first rule that fits.
FAMILY_USES = (
    Use(
        "scripts that home has loaded, on a task",
        "evalsha",
        ("~{p}task:{ids}", "~{p}events:{ids}", "~{p}live.{family}"),
    ),
    Use(
        "records: claim, lease, end",
        "hmget hget hgetall hexists exists hset hsetnx hincrby hdel pexpire",
        ("~{p}task:{ids}",),
    ),
    Use("events of tasks", "xadd xrange xrevrange pexpire", ("~{p}events:{ids}",)),
    Use(
        "events to web processes, and Celery's own",
        "publish",
        channels=("{p}web:{family}:*", "/{db}.celeryev", "/{db}.celeryev/*"),
    ),
    Use(
        "commands of operators, which it may not send",
        "subscribe unsubscribe psubscribe punsubscribe",
        channels=("/{db}.celery.pidbox",),
    ),
    Use("a task that ends is no live one; lost ones are looked for", "zrem zrange exists", ("~{p}live.{family}",)),
    Use(
        "a task that ends does not count for its owner any more",
        "zrem",
        ("~{p}live.{family}:*", "~{p}players.{family}:*"),
    ),
    Use("how long tasks take", "hget hset", ("~{p}means.{family}",)),
    Use("who has a turn", "get set del exists", ("~{p}turn.{family}:*",)),
    Use("whose turn is next", "lpop lrem llen", ("~{p}aside.{family}:*",)),
    Use("queues with turns that are to be repaired", "smembers scard srem", ("~{p}turns.{family}",)),
    Use("paused queues", "smembers", ("%R~{p}paused",)),
    Use("reports to the fleet", "zadd zrem", ("%W~{p}fleet.{family}",)),
    # Written for operators if a task fails, or an item cannot be read.
    Use("failures of tasks", "xadd pexpire", ("%W~{p}failures.{family}",)),
    Use("what cannot be read", "lpush ltrim pexpire", ("%W~{p}quarantine.{family}",)),
    Use("tasks that home is to look at for webhooks", "zcard zadd pexpire", ("%W~{p}changed:{family}",)),
    Use("where an operator waits for replies", "smembers", ("%R~_kombu.binding.reply.celery.pidbox",)),
    Use("replies to operators", "lpush", ("%W~*.reply.celery.pidbox",)),
)
KIND_USES = (
    Use("takes tasks, and puts them back", "brpop lpush rpush llen lrange exists", ("~{queue}",)),
    Use("the order of turns", "zadd zrem zrange zcard exists", ("~{p}owners:{queue}",)),
    Use(
        "how many tasks are parked, and messages of ended ones",
        "get set incr decr",
        ("~{p}asides:{queue}", "~{p}dead:{queue}"),
    ),
    Use("messages in hand", "hget hset hdel hvals watch", ("~unacked:{kind}",)),
    Use("the deadlines of these", "zadd zrem zrange zrevrangebyscore", ("~unacked_index:{kind}",)),
    Use("locks of its kind", "set get del", ("~unacked_mutex:{kind}", "~{p}sweeping:{kind}")),
)
NAME_USES = (
    Use("its own report", "set del", ("~{p}worker:{name}",)),
    Use("what its engine answers without work", "hset del pexpire", ("~{p}catalog:{name}",)),
    Use("its own queue of commands, which stays empty", "exists llen del pexpire", ("~{name}.celery.pidbox",)),
)
#: Of families whose engines make files.
ARTIFACT_USES = (
    Use("previews", "set", ("%W~{p}preview:{ids}",)),
    Use("descriptions of images", "hset hget hgetall hkeys", ("~{p}artifacts:{ids}",)),
    Use("images", "set setrange", ("%W~{p}artifact:{ids}",)),
    Use("lifetimes of images", "exists del pexpire", ("~{p}artifacts:{ids}", "~{p}artifact:{ids}")),
)


def worker_rules(box: str, kinds: Sequence[str], db: int = 0) -> list[str]:
    """Return the rules of a user for the workers of some kinds on one box, without a password.

    The workers are called ``KIND@BOX``, those of a GPU ``KIND@BOX-gpuN``. Raises SettingsError for an unusable name.
    """
    if not _BOX_NAME.fullmatch(box) or box == "default":
        raise SettingsError(f"{box!r} cannot be a box's name: use 1 to 64 letters, digits, '.', '_' and '-'")
    rules = ["-@all", "resetchannels"]
    rules += [f"+{command}" for command in CONNECTION.split()]
    # No other database: nobody looks after that.
    rules.append(f"+select|{db}")
    constants = {"p": [PREFIX], "db": [str(db)]}
    for family in _list_families(kinds):
        values = {**constants, "family": [family.name], "ids": [family.id_pattern]}
        uses: tuple[Use, ...] = FAMILY_USES
        if family.makes_artifacts:
            uses += ARTIFACT_USES
        rules += [use.rules(values) for use in uses]
    for kind in kinds:
        if kind == CONTROL:
            rules += control_rules(box, db)
            continue
        values = {**constants, "kind": [kind], "name": [f"{kind}@{box}", f"{kind}@{box}-gpu*"]}
        values["queue"] = []
        for queue in topology.WORKER_KINDS[kind].queues:
            values["queue"] += [queue, f"{queue}:*"]
        rules += [use.rules(values) for use in (*KIND_USES, *NAME_USES)]
    return list(dict.fromkeys(rules))


def setuser(user: str, password: str, rules: Iterable[str], *, hashed: bool = False) -> str:
    """Return the command that replaces the user; ``hashed``: with the hash of the password in place of it."""
    secret = f">{password}"
    if hashed:
        secret = f"#{sha256(password.encode()).hexdigest()}"
    return " ".join(("ACL SETUSER", user, "reset", "on", secret, *rules))


def _list_families(kinds: Sequence[str]) -> list[EngineFamily]:
    """Return the families of engines that workers of some kinds serve, each once."""
    families: list[EngineFamily] = []
    for kind in kinds:
        family = topology.WORKER_KINDS[kind].family
        if family is not None and family not in families:
            families.append(family)
    return families


def _fill(pattern: str, values: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a pattern with each value in the place of its fields."""
    filled = [pattern]
    for field, replacements in values.items():
        if f"{{{field}}}" in pattern:
            filled = [text.replace(f"{{{field}}}", value) for text in filled for value in replacements]
    return filled
