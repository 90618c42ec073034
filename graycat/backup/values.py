"""A key's value as the commands that write it: the form of a backup, which every broker from Redis 7.0 on takes.

``DUMP`` would be shorter, but a server takes only what servers of its own version or older ones of its family wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import hiredis

from graycat.backup.errors import BackupError
from graycat.backup.link import Link

#: One command of a backup: its name, the key, arguments.
Row = tuple[bytes, ...]
#: What a backup may hold, and the fewest arguments of each, the key among them.
COMMANDS = {
    b"SET": 2, b"HSET": 3, b"RPUSH": 2, b"SADD": 2, b"ZADD": 3, b"XADD": 4, b"XTRIM": 3, b"XSETID": 6, b"PEXPIREAT": 2,
    b"DEL": 1,
}  # fmt: skip
#: Those that may have more arguments: parts of the one key's value.
VARIABLE = frozenset({b"HSET", b"RPUSH", b"SADD", b"ZADD", b"XADD"})
#: Roughly how many bytes are read at once, if no single key has more; and so many bytes or parts has one row.
READ_BYTES, ROW_BYTES, ROW_PARTS = 8 * 1024 * 1024, 1024 * 1024, 1000
#: Names whose types are asked for at once.
NAMES_AT_ONCE = 500
#: The kinds of values that graycat writes, and the command that reads each whole.
_READ: dict[bytes, tuple[bytes, ...]] = {
    b"string": (b"GET",),
    b"hash": (b"HGETALL",),
    b"list": (b"LRANGE", b"0", b"-1"),
    b"set": (b"SMEMBERS",),
    b"zset": (b"ZRANGE", b"0", b"-1", b"WITHSCORES"),
    b"stream": (b"XRANGE", b"-", b"+"),
}
#: How many entries each has; a string counts as one.
_SIZE = {b"hash": b"HLEN", b"list": b"LLEN", b"set": b"SCARD", b"zset": b"ZCARD"}
_NONE = b"none"


class Value(NamedTuple):
    """What one key holds. ``rows`` is empty if it is gone."""

    name: bytes
    rows: list[Row]
    memory_bytes: int
    #: How many entries it has; 1 for a string or a stream.
    size: int


class _Found(NamedTuple):
    name: bytes
    type: bytes
    expires_ms: int
    memory_bytes: int


def read_values(link: Link, names: Sequence[bytes]) -> Iterator[Value]:
    """Yield what keys hold, about ``READ_BYTES`` at once. Raises BackupError.

    Keys that change meanwhile may come as they never were. Whoever calls knows which, and reads these again.
    """
    for start in range(0, len(names), NAMES_AT_ONCE):
        found = _look(link, names[start : start + NAMES_AT_ONCE])
        for some in _split(found):
            yield from _read(link, some)


def _look(link: Link, names: Sequence[bytes]) -> list[_Found]:
    commands: list[tuple[bytes | str, ...]] = []
    for name in names:
        commands += [("TYPE", name), ("PEXPIRETIME", name), ("MEMORY", "USAGE", name)]
    replies = link.run(commands)
    found = []
    for name, kind, expires_ms, size in zip(names, replies[::3], replies[1::3], replies[2::3], strict=True):
        for reply in (kind, expires_ms, size):
            if isinstance(reply, hiredis.ReplyError):
                raise BackupError(f"the broker refuses to tell of a key: {reply}")
        found.append(_Found(name, _to_bytes(kind), expires_ms, size or 0))
    return found


def _split(found: Iterable[_Found]) -> Iterator[list[_Found]]:
    """Yield keys in groups that are read at once."""
    group: list[_Found] = []
    total = 0
    for key in found:
        if group and total + key.memory_bytes > READ_BYTES:
            yield group
            group, total = [], 0
        group.append(key)
        total += key.memory_bytes
    if group:
        yield group


def _read(link: Link, found: Sequence[_Found]) -> Iterator[Value]:
    commands: list[tuple[bytes, ...]] = []
    for key in found:
        if key.type in _READ:
            command, *arguments = _READ[key.type]
            commands.append((command, key.name, *arguments))
        if key.type == b"stream":
            commands.append((b"XINFO", b"STREAM", key.name))
    replies = iter(link.run(commands))
    for key in found:
        if key.type not in _READ:
            # It is gone; or it is of a module, which graycat has none of.
            yield Value(key.name, [], 0, 0)
            continue
        reply = next(replies)
        # It has another type by now: whoever calls reads it again.
        is_other = isinstance(reply, hiredis.ReplyError)
        if key.type == b"stream":
            state = next(replies)
            is_other = is_other or isinstance(state, hiredis.ReplyError)
            reply = (reply, state)
        if is_other:
            yield Value(key.name, [], 0, 0)
            continue
        yield _make_value(key, reply)


def _make_value(key: _Found, reply: Any) -> Value:
    rows = list(_WRITE[key.type](key.name, reply))
    size = 1
    if key.type in _SIZE:
        size = len(reply)
        if key.type in (b"hash", b"zset"):
            size //= 2
    if rows and key.expires_ms > 0:
        rows.append((b"PEXPIREAT", key.name, b"%d" % key.expires_ms))
    return Value(key.name, rows, key.memory_bytes, size)


def count_entries(link: Link, names: Sequence[bytes]) -> list[int]:
    """Return how many entries each key has. Raises BackupError."""
    sizes = []
    types = map(_to_bytes, link.run([("TYPE", name) for name in names]))
    for name, kind in zip(names, types, strict=True):
        size = int(kind != _NONE)
        if kind in _SIZE:
            size = link.ask(_SIZE[kind], name)
        sizes.append(size)
    return sizes


def _write_string(name: bytes, reply: bytes | None) -> Iterator[Row]:
    if reply is not None:
        yield b"SET", name, reply


def _write_list(name: bytes, reply: Sequence[bytes]) -> Iterator[Row]:
    return _in_rows((b"RPUSH", name), reply, 1)


def _write_set(name: bytes, reply: Sequence[bytes]) -> Iterator[Row]:
    return _in_rows((b"SADD", name), reply, 1)


def _write_hash(name: bytes, reply: Sequence[bytes]) -> Iterator[Row]:
    return _in_rows((b"HSET", name), reply, 2)


def _write_zset(name: bytes, reply: Sequence[bytes]) -> Iterator[Row]:
    pairs: list[bytes] = []
    for member, score in zip(reply[::2], reply[1::2], strict=True):
        pairs += [score, member]
    return _in_rows((b"ZADD", name), pairs, 2)


def _write_stream(name: bytes, reply: tuple[Any, Any]) -> Iterator[Row]:
    """Yield the rows of a stream: its entries, then what it has had. graycat's streams have no consumer groups."""
    entries, state = reply
    for entry_id, fields in entries:
        yield b"XADD", name, entry_id, *fields
    info = dict(zip(state[::2], state[1::2], strict=True))
    last = info[b"last-generated-id"]
    if last == b"0-0":
        return
    if not entries:
        # An empty stream that has had entries: its next id must be behind them.
        yield b"XADD", name, last, b"", b""
        yield b"XTRIM", name, b"MAXLEN", b"0"
    added, deleted = b"%d" % info[b"entries-added"], info[b"max-deleted-entry-id"]
    yield b"XSETID", name, last, b"ENTRIESADDED", added, b"MAXDELETEDID", deleted


_WRITE: dict[bytes, Callable[[bytes, Any], Iterator[Row]]] = {
    b"string": _write_string,
    b"hash": _write_hash,
    b"list": _write_list,
    b"set": _write_set,
    b"zset": _write_zset,
    b"stream": _write_stream,
}


def _in_rows(begin: Row, parts: Sequence[bytes], step: int) -> Iterator[Row]:
    """Yield commands that write the parts of a value, ``step`` of which belong together."""
    row: list[bytes] = []
    size = 0
    for start in range(0, len(parts), step):
        row += parts[start : start + step]
        size += sum(map(len, parts[start : start + step]))
        if len(row) >= ROW_PARTS or size >= ROW_BYTES:
            yield *begin, *row
            row, size = [], 0
    if row:
        yield *begin, *row


def _to_bytes(reply: Any) -> bytes:
    """Return a reply that is a word. Raises BackupError if it is an error."""
    if isinstance(reply, bytes):
        return reply
    raise BackupError(f"the broker refuses to tell of a key: {reply}")
