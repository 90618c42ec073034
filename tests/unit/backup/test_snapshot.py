from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from graycat.backup import snapshot
from graycat.backup.errors import BackupError
from graycat.backup.snapshot import Snapshot
from tests.support.backups import FOREIGN, GHOSTS, contents_of, fill, write_backup
from tests.support.broker import BrokerClient, connect_client
from tests.support.helpers import Valkey, eventually


def test_it_holds_what_is_graycat_s_and_no_ghosts(valkey: Valkey, client: BrokerClient, tmp_path: Path) -> None:
    fill(client)
    kept = set(client.keys("*"))
    client.mset(dict.fromkeys((*GHOSTS, *FOREIGN), "x"))
    taken = write_backup(valkey.settings, tmp_path / "b")
    assert set(contents_of(tmp_path / "b")) == kept
    assert taken.keys == len(kept)
    assert {word: count for word, count in taken.counts().items() if count} == {
        "API tokens": 2, "schedules": 1, "batches": 3, "tasks": 1, "queued messages": 2501, "images": 1,
        "deliveries": 1, "days of usage": 1,
    }  # fmt: skip
    assert taken.broker.keys() == {"server", "version"}
    assert taken.taken_ms == pytest.approx(client.time()[0] * 1000, abs=60_000)


class Mover:
    """Moves amounts between keys, makes keys and deletes them, each time in one step, until it is stopped."""

    NAMES = tuple(f"graycat:batch:{number}" for number in range(40))

    def __init__(self, valkey: Valkey) -> None:
        self._client = connect_client(valkey.settings, patient=True)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.steps = 0
        for name in self.NAMES:
            self._client.hset(name, mapping={"sum": 100, "ballast": "x" * 2000})

    def _run(self) -> None:
        while not self._stopping.is_set():
            source, target = self.NAMES[self.steps % 40], self.NAMES[self.steps * 7 % 40]
            pipe: Any = self._client.pipeline()
            pipe.hincrby(source, "sum", -1)
            pipe.hincrby(target, "sum", 1)
            # The next one is there before this one is gone.
            pipe.set(f"graycat:task:{self.steps + 1}", "x")
            pipe.delete(f"graycat:task:{self.steps}")
            pipe.execute()
            self.steps += 1

    def __enter__(self) -> Mover:
        self._thread.start()
        eventually(lambda: self.steps > 20)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._client.close()


def test_it_is_of_one_moment_while_others_write(valkey: Valkey, client: BrokerClient, tmp_path: Path) -> None:
    # So many that reading them takes a while.
    client.mset({f"graycat:events:{number}": "x" for number in range(5000)})
    with Mover(valkey) as mover:
        before = mover.steps
        write_backup(valkey.settings, tmp_path / "b")
        assert mover.steps > before + 20
    found = contents_of(tmp_path / "b")
    sums = [int(row[2]) for name in Mover.NAMES for row in found[name.encode()] if row[1] == b"sum"]
    assert sum(sums) == 4000
    assert len([name for name in found if name.startswith(b"graycat:task:")]) == 1


def test_who_cannot_read_what_changes_in_time_makes_no_backup(
    valkey: Valkey, client: BrokerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(client)
    monkeypatch.setattr(snapshot, "PAUSE_MS", 0)
    monkeypatch.setattr(snapshot, "MAX_PAUSES", 2)
    with pytest.raises(BackupError, match="too busy"):
        Snapshot(valkey.settings, lambda _row: None).take()


def test_a_broker_that_is_emptied_meanwhile_is_no_backup(valkey: Valkey, client: BrokerClient) -> None:
    fill(client)
    writes: list[Any] = []

    def write(row: Any) -> None:
        if not writes:
            client.flushall()
        writes.append(row)

    with pytest.raises(BackupError, match="emptied"):
        Snapshot(valkey.settings, write).take()


def test_writes_go_on_when_it_has_failed_in_a_pause(
    valkey: Valkey, client: BrokerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "PAUSE_MS", 60_000)

    def fail(_link: object) -> None:
        raise BackupError("no")

    monkeypatch.setattr(Snapshot, "_check_watch", staticmethod(fail))
    with pytest.raises(BackupError, match="no"):
        Snapshot(valkey.settings, lambda _row: None).take()
    assert client.set("graycat:a", "x")


def test_a_broker_that_tells_no_changes_any_more_is_noticed(
    valkey: Valkey, client: BrokerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watch(_link: object, _changes: object) -> Any:
        return set

    monkeypatch.setattr(Snapshot, "_watch", staticmethod(watch))
    with pytest.raises(BackupError, match="stopped"):
        Snapshot(valkey.settings, lambda _row: None).take()
