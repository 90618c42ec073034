"""Backups in tests: what one holds, and a broker that has some of everything."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from graycat.backup.archive import BackupFile, new_backup
from graycat.backup.restore import Restore
from graycat.backup.snapshot import Snapshot
from graycat.settings import Settings
from tests.support.broker import BrokerClient
from tests.support.stack import BIN, START_S

Contents = dict[bytes, set[tuple[bytes, ...]]]


def run_backup(env: Mapping[str, str], file: Path, *options: str) -> str:
    """Run ``graycat backup``, with the settings of a stack that runs or not; return what it prints."""
    return _run(env, "backup", *options, str(file))


def run_restore(env: Mapping[str, str], file: Path, *options: str) -> str:
    """Run ``graycat restore``, with the settings of a stack that does not run; return what it prints."""
    return _run(env, "restore", *options, str(file))


def _run(env: Mapping[str, str], *words: str) -> str:
    command = [str(BIN / "graycat"), *words]
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True, timeout=2 * START_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_backup(settings: Settings, path: Path) -> Snapshot:
    """Back a broker up to a file, without any files of its home; return what was read."""
    with new_backup(path, overwrite=True) as writer:
        with writer.rows() as write:
            snapshot = Snapshot(settings, write)
            snapshot.take()
        manifest = {"counts": snapshot.counts(), "memory_bytes": snapshot.memory_bytes}
        writer.finish({"id": "1", "graycat": "0.1.0", "taken_at": "", **manifest})
    return snapshot


def restore_backup(settings: Settings, path: Path, *, replace: bool = False, force: bool = False) -> Restore:
    """Check a file and restore it."""
    backup = BackupFile.open(path)
    try:
        backup.verify()
        made = Restore(settings, backup, replace=replace, force=force)
        made.run()
        return made
    finally:
        backup.close()


def contents_of(path: Path) -> Contents:
    """Return the commands that write each key of a backup. Parts of hashes and sets have no order."""
    backup = BackupFile.open(path)
    found: Contents = {}
    for command, name, *arguments in backup.rows():
        if command == b"DEL":
            found.pop(name, None)
            continue
        if command == b"ZADD":
            # Valkey 9 writes a score in fewer digits than Redis 7.0.
            arguments[::2] = [repr(float(score)).encode() for score in arguments[::2]]
        # Hashes and sets in pieces: a broker may tell them in another order.
        step = {b"HSET": 2, b"ZADD": 2, b"SADD": 1}.get(command, len(arguments) or 1)
        pieces = [(command, *arguments[start : start + step]) for start in range(0, len(arguments), step)]
        found.setdefault(name, set()).update(pieces)
    backup.close()
    return found


def fill(client: BrokerClient) -> None:
    """Write a key of each type and each kind, as large and as odd as graycat's may be."""
    client.hset("graycat:tokens", mapping={"gc_a": "sealed\xff", "gc_b": "x"})
    client.zadd("graycat:tokens:revoked", {"gc_c": 1700000000.125})
    client.sadd("graycat:schedules", "tests:night")
    client.hset("graycat:schedule:tests:night", "cron", "0 3 * * *")
    client.zadd("graycat:batches", {"b1": 1.5, "b2": float("inf"), "b3": 0.1})
    client.hset("graycat:batch:b1:plan", mapping={str(number): b"\0\xff" * number for number in range(1500)})
    client.hset("graycat:task:0a", mapping={"state": "queued", "body": b"\x80" * 3_000_000})
    client.pexpire("graycat:task:0a", 3_600_000)
    client.xadd("graycat:events:0a", {"kind": "chunk", "data": b"\xff\r\n"})
    client.xadd("graycat:events:empty", {"kind": "chunk"})
    client.xtrim("graycat:events:empty", maxlen=0)
    client.lpush("llm", *(b"message %d" % number for number in range(2500)))
    client.hset("unacked:llm", "tag", "message")
    client.zadd("unacked_index:llm", {"tag": 1})
    client.set("graycat:artifact:8a:1", b"\x89PNG" + bytes(range(256)))
    client.hset("graycat:usage:day:2026-11-29", "tests llm requests", 7)
    client.set("graycat:delivery:0a succeeded", "x")
    client.sadd("graycat:paused", "sd")
    client.set("graycat:of-a-later-release", "kept")


#: What is true for seconds; and what belongs to other programs.
GHOSTS = (
    "graycat:beat::lock", "graycat:batches:feeding", "graycat:worker:llm@box", "graycat:sweeping:llm",
    "graycat:rate:tests", "graycat:receiver:example.com", "graycat:preview:8a", "unacked_mutex:llm", "control",
)  # fmt: skip
FOREIGN = ("another:program", "_kombu.binding.control", "graycat:wrong-type:graycat:live.llm")
