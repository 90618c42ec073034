from __future__ import annotations

import json
import re
import zipfile
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from graycat.backup import restore as module
from graycat.backup.archive import BROKER, MANIFEST, BackupFile
from graycat.backup.contents import RESTORED, STAGING
from graycat.backup.errors import BackupError
from graycat.backup.link import Link
from graycat.backup.restore import Restore, list_connected
from graycat.broker.connections import RawConnection
from graycat.queue.models import Attempt
from graycat.queue.records import TaskRecords
from tests.support.backups import FOREIGN, GHOSTS, contents_of, fill, restore_backup, write_backup
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, accepted, changed
from tests.unit.backup.test_archive import rewritten


@pytest.fixture
def file(valkey: Valkey, client: BrokerClient, tmp_path: Path) -> Path:
    """Return the backup of a broker that has some of everything."""
    fill(client)
    write_backup(valkey.settings, tmp_path / "b")
    return tmp_path / "b"


def test_a_backup_of_what_was_restored_is_the_same(another: Valkey, file: Path, tmp_path: Path) -> None:
    restore_backup(another.settings, file)
    write_backup(another.settings, tmp_path / "again")
    assert contents_of(tmp_path / "again") == contents_of(file)
    assert json.loads(another.client.get(RESTORED).split(b" ", 1)[1])["id"] == "1"  # type: ignore[union-attr]
    assert another.client.keys(f"{STAGING}*") == []
    # Messages have their order.
    assert another.client.lrange("llm", 0, 1) == [b"message 2499", b"message 2498"]
    assert another.client.xadd("graycat:events:empty", {"a": "b"}) > b"1"


def test_what_has_expired_meanwhile_does_not_come_back(
    valkey: Valkey, client: BrokerClient, another: Valkey, tmp_path: Path
) -> None:
    client.hset("graycat:task:0b", "state", "queued")
    client.pexpireat("graycat:task:0b", 2_000_000_000_000)
    path = tmp_path / "b"
    write_backup(valkey.settings, path)
    assert b"graycat:task:0b" in contents_of(path)
    with zipfile.ZipFile(path) as archive:
        rows = archive.read(BROKER).replace(b"2000000000000", b"1000000000000")
    rewritten(path, BROKER, lambda _: rows)
    rewritten(path, MANIFEST, lambda text: re.sub(rb"[0-9a-f]{64}", sha256(rows).hexdigest().encode(), text))
    restore_backup(another.settings, path)
    assert not another.client.exists("graycat:task:0b")


def test_a_broker_that_is_not_empty_is_left_as_it_is(another: Valkey, file: Path) -> None:
    another.client.hset("graycat:tokens", "gc_x", "sealed")
    with pytest.raises(BackupError, match="it has 1 API tokens: --replace deletes that"):
        restore_backup(another.settings, file)
    assert another.client.keys("*") == [b"graycat:tokens"]


def test_what_is_replaced_and_what_is_not(another: Valkey, file: Path, tmp_path: Path) -> None:
    client = another.client
    client.mset(dict.fromkeys((*GHOSTS, *FOREIGN), "x"))
    client.delete("graycat:worker:llm@box")
    client.hset("graycat:task:0c", "state", "queued")
    client.lpush("llm:old", "message")
    made = restore_backup(another.settings, file, replace=True)
    assert made.replaced["tasks"] == 1
    assert set(client.keys("*")) == {*contents_of(file), RESTORED.encode(), *(name.encode() for name in FOREIGN)}


@pytest.mark.parametrize("name", ["control:theirs", "control.x"])
def test_keys_that_only_look_like_a_queue_of_control_stay(another: Valkey, file: Path, name: str) -> None:
    another.client.set(name, "theirs")
    restore_backup(another.settings, file)
    assert another.client.get(name) == b"theirs"


def test_a_restore_that_is_interrupted_while_it_waits_for_a_reply_cleans_up(
    another: Valkey, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = RawConnection.read

    def interrupted(connection: RawConnection, count: int) -> list[object]:
        if count > 1:
            monkeypatch.undo()
            raise KeyboardInterrupt
        return read(connection, count)

    with closing(BackupFile.open(file)) as backup:
        made = Restore(another.settings, backup, replace=False, force=False)
        monkeypatch.setattr(RawConnection, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made.run()
    assert another.client.keys("*") == []


@pytest.mark.parametrize("ghosts", [GHOSTS[:2], ()])
def test_a_broker_that_has_only_ghosts_is_empty(another: Valkey, file: Path, ghosts: tuple[str, ...]) -> None:
    another.client.mset(dict.fromkeys((*ghosts, "graycat:schedules:fired"), "x"))
    restore_backup(another.settings, file)
    assert set(another.client.keys("*")) == {*contents_of(file), RESTORED.encode()}


def test_processes_that_use_the_broker(another: Valkey, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORGOTTEN_S", 0.1)
    another.client.set("graycat:worker:llm@box", "report")
    with pytest.raises(BackupError, match=r"0 web servers and 1 workers \(llm@box\): stop it on all machines"):
        restore_backup(another.settings, file)
    assert another.client.keys("*") == [b"graycat:worker:llm@box"]
    another.client.pexpire("graycat:worker:llm@box", 50)
    monkeypatch.setattr(module, "FORGOTTEN_S", 30.0)
    with closing(another.client.pubsub()) as listening:
        listening.subscribe("graycat:web:llm:1f", "graycat:web:sd:1f")
        listening.get_message(timeout=5)
        with closing(Link(another.settings)) as link:
            assert list_connected(link)[0] == 1
        with pytest.raises(BackupError, match="1 web servers"):
            restore_backup(another.settings, file)
        restore_backup(another.settings, file, force=True)
    # A worker that was killed is forgotten after a while.
    another.client.flushall()
    another.client.set("graycat:worker:llm@box", "report", px=100)
    restore_backup(another.settings, file)


def test_a_broker_without_room(another: Valkey, file: Path) -> None:
    another.client.config_set("maxmemory", 3_000_000)
    try:
        with pytest.raises(BackupError, match=r"takes \d MiB of memory, the broker has \d MiB left of 2"):
            restore_backup(another.settings, file)
    finally:
        another.client.config_set("maxmemory", 0)
    assert another.client.keys("*") == []


def test_a_failure_leaves_nothing_and_may_be_repeated(another: Valkey, file: Path) -> None:
    another.client.set("graycat:schedules:fired", "before")
    # It lies about its size, so the memory ends in the middle.
    lying = rewritten(file, MANIFEST, lambda text: text.replace(b'"memory_bytes": ', b'"memory_bytes": 0, "was": '))
    another.client.config_set("maxmemory", another.client.info("memory")["used_memory"] + 1_000_000)
    try:
        with pytest.raises(BackupError, match="refuses"):
            restore_backup(another.settings, lying)
    finally:
        another.client.config_set("maxmemory", 0)
    assert another.client.keys("*") == [b"graycat:schedules:fired"]
    restore_backup(another.settings, lying)


def test_a_connection_that_is_lost_in_the_middle(another: Valkey, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, count = Link.run, 0

    def run_until_cut(link: Link, commands: list[tuple[str, ...]]) -> object:
        nonlocal count
        count += len(commands) > 1
        if count == 3:
            another.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        return run(link, commands)

    monkeypatch.setattr(module, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(Link, "run", run_until_cut)
    with pytest.raises(BackupError, match="connection to the broker was lost"):
        restore_backup(another.settings, file)
    monkeypatch.undo()
    left = another.client.keys("*")
    assert left
    assert all(name.startswith(STAGING.encode()) for name in left)
    restore_backup(another.settings, file)
    assert another.client.llen("llm") == 2500


def test_a_reply_that_is_lost_is_asked_for_again(another: Valkey, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = Link.ask

    def ask_and_lose(link: Link, *command: str) -> object:
        reply = ask(link, *command)
        if command[0] == "EVAL":
            monkeypatch.undo()
            raise BackupError("lost")
        return reply

    monkeypatch.setattr(Link, "ask", ask_and_lose)
    restore_backup(another.settings, file)
    assert another.client.llen("llm") == 2500


def test_what_was_staged_and_is_gone_replaces_nothing(
    another: Valkey, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    another.client.set("graycat:schedules:fired", "before")
    ask = Link.ask

    def ask_an_emptied_one(link: Link, *command: str) -> object:
        if command[0] == "EVAL":
            another.client.delete(module.MARK)
        return ask(link, *command)

    monkeypatch.setattr(Link, "ask", ask_an_emptied_one)
    with pytest.raises(BackupError, match="nothing was restored"):
        restore_backup(another.settings, file)
    assert another.client.get("graycat:schedules:fired") == b"before"


def test_of_two_restores_at_the_same_time_the_last_one_counts(
    another: Valkey, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = BackupFile.open(file)
    first = Restore(another.settings, backup, replace=False, force=False)
    with pytest.raises(BackupError, match="another restore has begun"):
        first.run(before_commit=lambda: restore_backup(another.settings, file))  # type: ignore[arg-type]
    backup.close()
    assert another.client.llen("llm") == 2500
    assert another.client.keys(f"{STAGING}*") == []


def test_a_backup_of_a_newer_release(another: Valkey, file: Path) -> None:
    newer = rewritten(file, MANIFEST, lambda text: text.replace(b'"0.1.0"', b'"999.0"'))
    with pytest.raises(BackupError, match=r"made by graycat 999\.0"):
        restore_backup(another.settings, newer)


def test_a_task_that_ran_runs_again_and_that_is_not_its_fault(
    valkey: Valkey, records: TaskRecords, another: Valkey, tmp_path: Path
) -> None:
    task_id = accepted(records)
    assert isinstance(records.claim(task_id, "llm@box"), Attempt)
    write_backup(valkey.settings, tmp_path / "b")
    # As many attempts as a task has would be over.
    settings = changed(another.settings, max_attempts=1)
    restore_backup(settings, tmp_path / "b")
    # Its lease is over: it has run out in the time since.
    another.client.hset(f"graycat:task:{task_id}", "lease_ms", 1)
    claimed = TaskRecords(another.client, settings).claim(task_id, "llm@another")
    assert isinstance(claimed, Attempt)
    assert claimed.number == 2
    assert another.client.hget(f"graycat:task:{task_id}", "charged") == b"0"
