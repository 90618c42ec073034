from __future__ import annotations

import errno
import stat
from pathlib import Path

import pytest

from graycat.backup import home_files
from graycat.backup.archive import BackupFile, new_backup
from graycat.backup.errors import BackupError
from graycat.backup.home_files import HomeFiles


def backup_of(home: Path, path: Path, **more: Path) -> BackupFile:
    """Return the backup of a home's files, with more under names that no home has."""
    with new_backup(path, overwrite=True) as writer:
        with writer.rows() as write:
            write((b"DEL", b"graycat:paused"))
        for name, source in (*home_files.list_keys(home).items(), *home_files.list_batches(home), *more.items()):
            writer.add(name, source)
        writer.finish({})
    return BackupFile.open(path)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home with two keys and a batch."""
    home = tmp_path / "home"
    (home / "batches" / "night").mkdir(parents=True)
    (home / "token-key").write_text("the key\n")
    (home / "webhook-key").write_text("another\n")
    (home / "metrics-token").write_text("this machine's\n")
    (home / "batches" / "night" / "1.png").write_bytes(b"an image")
    (home / "batches" / "night" / ".half").write_bytes(b"half")
    (home / "batches" / "night" / "link").symlink_to("/etc/passwd")
    return home


def put(backup: BackupFile, target: Path, *, replace: bool = False) -> None:
    files = HomeFiles(target, backup, replace=replace)
    files.prepare()
    files.finish()


def test_keys_and_batches_go_to_another_home(home: Path, tmp_path: Path) -> None:
    backup = backup_of(home, tmp_path / "b")
    target = tmp_path / "target"
    target.mkdir()
    put(backup, target)
    put(backup, target)
    found = {path.relative_to(target).as_posix(): path for path in target.rglob("*") if path.is_file()}
    assert sorted(found) == ["batches/night/1.png", "token-key", "webhook-key"]
    assert (target / "token-key").read_text() == "the key\n"
    assert stat.S_IMODE((target / "token-key").stat().st_mode) == 0o600


def test_another_key_is_replaced_only_on_demand_and_kept(home: Path, tmp_path: Path) -> None:
    backup = backup_of(home, tmp_path / "b")
    target = tmp_path / "target"
    target.mkdir()
    (target / "token-key").write_text("of this machine\n")
    with pytest.raises(BackupError, match="is another key than that of the backup: --replace"):
        put(backup, target)
    assert [path.name for path in target.iterdir()] == ["token-key"]
    put(backup, target, replace=True)
    assert (target / "token-key").read_text() == "the key\n"
    assert (target / "token-key.before-restore").read_text() == "of this machine\n"


def test_files_that_are_there_are_kept_unless_replaced(home: Path, tmp_path: Path) -> None:
    backup = backup_of(home, tmp_path / "b")
    (home / "batches" / "night" / "1.png").write_bytes(b"newer")
    put(backup, home)
    assert (home / "batches" / "night" / "1.png").read_bytes() == b"newer"
    put(backup, home, replace=True)
    assert (home / "batches" / "night" / "1.png").read_bytes() == b"an image"


@pytest.mark.parametrize("name", ["../x", "batches/../../x", "batches", "log/x", "/etc/x", "batches/../token-key"])
def test_a_file_of_no_place_is_damage(home: Path, tmp_path: Path, name: str) -> None:
    backup = backup_of(home, tmp_path / "b", **{name: home / "token-key"})
    with pytest.raises(BackupError, match="a file of no place"):
        HomeFiles(tmp_path / "target", backup, replace=True)


def test_a_folder_that_cannot_be_written(home: Path, tmp_path: Path) -> None:
    backup = backup_of(home, tmp_path / "b")
    target = tmp_path / "target"
    target.mkdir()
    (target / "batches").write_text("no folder")
    with pytest.raises(BackupError, match="cannot be written"):
        put(backup, target)
    assert [path.name for path in target.iterdir()] == ["batches"]
    files = HomeFiles(tmp_path / "other", backup, replace=True)
    (tmp_path / "other").mkdir()
    files.prepare()
    (tmp_path / "other" / "token-key").mkdir()
    with pytest.raises(BackupError, match="the broker is restored, but .*token-key"):
        files.finish()


@pytest.mark.parametrize("key", [b"", b" \n", b"\xff\xfe"])
def test_what_is_no_key_replaces_none(home: Path, tmp_path: Path, key: bytes) -> None:
    (home / "token-key").write_bytes(key)
    backup = backup_of(home, tmp_path / "b")
    target = tmp_path / "target"
    target.mkdir()
    (target / "token-key").write_text("the key")
    with pytest.raises(BackupError, match="token-key is no key"):
        put(backup, target, replace=True)
    assert [(path.name, path.read_text()) for path in target.iterdir()] == [("token-key", "the key")]


def test_a_key_that_is_no_text_is_another_key(home: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "token-key").write_bytes(b"\xff")
    put(backup_of(home, tmp_path / "b"), target, replace=True)
    assert (target / "token-key.before-restore").read_bytes() == b"\xff"


def test_a_name_that_is_no_text_is_told(home: Path) -> None:
    (home / "batches" / "\udcff.png").touch()
    with pytest.raises(BackupError, match="udcff.png' in .* is not UTF-8: rename it"):
        list(home_files.list_batches(home))


def test_a_disk_that_takes_no_more_keeps_no_half_of_a_file(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = backup_of(home, tmp_path / "b")
    target = tmp_path / "target"
    target.mkdir()

    def fail(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(BackupError, match="cannot be written: No space left"):
        put(backup, target)
    assert [path for path in target.rglob("*") if path.is_file()] == []


def test_fingerprints() -> None:
    assert home_files.fingerprint("a") != home_files.fingerprint("b")
    assert "a key" not in home_files.fingerprint("a key")
