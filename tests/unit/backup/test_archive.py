from __future__ import annotations

import errno
import json
import os
import resource
import stat
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from graycat.backup.archive import BROKER, MANIFEST, BackupFile, new_backup
from graycat.backup.errors import BackupError
from graycat.backup.values import Row

ROWS: list[Row] = [
    (b"SET", b"graycat:paused", b"\x00\xff\r\n"),
    (b"DEL", b"graycat:task:1"),
    (b"HSET", b"graycat:tokens", b"a", b"b"),
]


def make(
    path: Path,
    rows: list[Row] | None = None,
    *,
    overwrite: bool = False,
    before_end: Callable[[], object] = bool,
    **manifest: object,
) -> Path:
    with new_backup(path, overwrite=overwrite) as writer:
        with writer.rows() as write:
            for row in rows or ROWS:
                write(row)
            before_end()
        writer.finish(manifest)
    return path


def fail() -> None:
    raise BackupError("half")


def verified(path: Path) -> BackupFile:
    backup = BackupFile.open(path)
    try:
        backup.verify()
    finally:
        backup.close()
    return backup


def rewritten(path: Path, part: str, change: Callable[[bytes], bytes]) -> Path:
    """Write a part of a backup anew, in a file that is whole by itself."""
    with zipfile.ZipFile(path) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    parts[part] = change(parts.get(part, b""))
    with zipfile.ZipFile(path, "w") as target:
        for name, data in parts.items():
            target.writestr(name, data)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "a file").write_bytes(b"of the home")
    with new_backup(tmp_path / "b", overwrite=False) as writer:
        with writer.rows() as write:
            for row in ROWS * 3_000:
                write(row)
        writer.add("batches/1.png", tmp_path / "a file")
        writer.finish({"taken_at": "now"})
    backup = BackupFile.open(tmp_path / "b")
    backup.verify()
    assert [tuple(row) for row in backup.rows()] == ROWS * 3_000
    assert (backup.manifest["taken_at"], backup.files()) == ("now", ["batches/1.png"])
    with (tmp_path / "out").open("wb") as out:
        backup.extract("batches/1.png", out)
    assert (tmp_path / "out").read_bytes() == b"of the home"
    backup.close()


def test_only_its_owner_reads_it_and_nothing_else_is_left(tmp_path: Path) -> None:
    assert stat.S_IMODE(make(tmp_path / "b").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["b"]


@pytest.mark.parametrize("there", [Path.touch, Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_what_exists_is_not_overwritten(tmp_path: Path, there: Callable[[Path], None]) -> None:
    there(tmp_path / "b")
    with pytest.raises(BackupError, match="exists: choose another name"):
        make(tmp_path / "b")
    assert os.listdir(tmp_path) == ["b"]


def test_what_has_appeared_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="exists"):
        make(tmp_path / "b", before_end=lambda: (tmp_path / "b").write_text("another's"))
    assert (tmp_path / "b").read_text() == "another's"
    assert os.listdir(tmp_path) == ["b"]


def test_an_older_one_is_overwritten_only_when_the_new_one_is_whole(tmp_path: Path) -> None:
    before = make(tmp_path / "b").read_bytes()
    with pytest.raises(BackupError, match="half"):
        make(tmp_path / "b", overwrite=True, before_end=fail)
    assert (tmp_path / "b").read_bytes() == before
    assert os.listdir(tmp_path) == ["b"]
    assert make(tmp_path / "b", overwrite=True, note="new").read_bytes() != before


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="cannot be written: No such file"):
        make(tmp_path / "none" / "b")


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(BackupError, match="cannot be written: File too large"):
            make(tmp_path / "b", [(b"SET", b"graycat:a", os.urandom(200_000))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []


def test_a_full_disk(tmp_path: Path) -> None:
    def fill_the_disk() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(BackupError, match="cannot be written: the disk is full"):
        make(tmp_path / "b", before_end=fill_the_disk)
    assert os.listdir(tmp_path) == []


def test_no_backup_at_all(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="cannot be read: No such file"):
        BackupFile.open(tmp_path / "none")
    with pytest.raises(BackupError, match="cannot be read: it is no file"):
        BackupFile.open(tmp_path)
    (tmp_path / "text").write_text("hello")
    with zipfile.ZipFile(tmp_path / "zip", "w") as other:
        other.writestr("a", "b")
    for name in ("text", "zip"):
        with pytest.raises(BackupError, match="is no backup of graycat"):
            BackupFile.open(tmp_path / name)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BackupError, match="it is no file"):
        BackupFile.open(tmp_path / "pipe")
    for text in ("[]", "{}", '{"format": "1"}', '{"format": true}', '{"format": -1}', "{", "[" * 100_000, "\0"):
        with pytest.raises(BackupError, match="is no backup of graycat"):
            BackupFile.open(rewritten(make(tmp_path / "b", overwrite=True), MANIFEST, lambda _: text.encode()))  # noqa: B023


def test_a_backup_of_a_newer_form(tmp_path: Path) -> None:
    newer = rewritten(
        make(tmp_path / "b", graycat="9.1"), MANIFEST, lambda text: text.replace(b'"format": 1', b'"format": 2')
    )
    with pytest.raises(BackupError, match=r"newer graycat \(9\.1\)"):
        BackupFile.open(newer)


@pytest.mark.parametrize(
    "said",
    [
        {"id": 1},
        {"graycat": None},
        {"taken_at": ["now"]},
        {"rows": -1},
        {"memory_bytes": "1"},
        {"memory_bytes": 1.5},
        {"counts": None},
        {"counts": {"tasks": "\x1b[2J"}},
        {"counts": {"tasks": -1}},
        {"sha256": []},
    ],
    ids=str,
)
def test_a_manifest_that_says_what_none_says_is_damage(tmp_path: Path, said: dict[str, object]) -> None:
    path = rewritten(make(tmp_path / "b"), MANIFEST, lambda text: json.dumps(json.loads(text) | said).encode())
    with pytest.raises(BackupError, match="is damaged: its manifest"):
        BackupFile.open(path)


def test_an_encrypted_part_is_damage(tmp_path: Path) -> None:
    path = make(tmp_path / "b")
    data = bytearray(path.read_bytes())
    # The flags of the last part, the manifest, in its header and in the list at the end.
    data[data.rindex(b"PK\x03\x04") + 6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(BackupError, match="is no backup of graycat"):
        BackupFile.open(path)


def test_what_is_no_file_is_not_overwritten(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path(), Path("/"), Path("/dev/null")):
        with pytest.raises(BackupError, match="is no file"):
            make(path, overwrite=True)
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_file_that_is_gone_by_now_is_left_out_and_one_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with new_backup(tmp_path / "b", overwrite=False) as writer:
        with writer.rows() as write:
            write(ROWS[0])
        writer.add("batches/gone.png", tmp_path / "gone.png")
        writer.finish({})
    assert verified(tmp_path / "b").files() == []
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(BackupError, match="/folder cannot be read: Is a directory"),
        new_backup(tmp_path / "c", overwrite=False) as writer,
    ):
        writer.add("batches/folder", tmp_path / "folder")


def test_every_damage_is_found(tmp_path: Path) -> None:
    path = make(tmp_path / "b", [(b"SET", b"graycat:a", os.urandom(2000))])
    whole = path.read_bytes()
    verified(path)
    for place in range(0, len(whole), 197):
        path.write_bytes(whole[:place])
        with pytest.raises(BackupError):
            verified(path)
    header_only = 0
    for place in range(0, len(whole), 23):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            verified(path)
        except BackupError:
            continue
        # A field that nobody reads: the time of a part, or a version that is needed.
        header_only += 1
    assert header_only < 12


@pytest.mark.parametrize(
    "data",
    [
        b"*2\r\n$8\r\nFLUSHALL\r\n$9\r\ngraycat:a\r\n",
        b"*3\r\n$3\r\nSET\r\n$9\r\nanother:a\r\n$1\r\nx\r\n",
        b"*2\r\n$3\r\nSET\r\n$9\r\ngraycat:a\r\n",
        # A second key, of another program; and what other replies of a broker are, which hiredis may not take.
        b"*3\r\n$3\r\nDEL\r\n$9\r\ngraycat:a\r\n$1\r\nx\r\n",
        b"*4\r\n$3\r\nSET\r\n$9\r\ngraycat:a\r\n$1\r\nx\r\n$2\r\nNX\r\n",
        b"%1\r\n*1\r\n+a\r\n+b\r\n",
        b"*1\r\n" * 100,
        b"+OK\r\n",
        b":1\r\n",
        b"*1\r\n*0\r\n",
        b"nonsense\r\n",
        b"*2\r\n$3\r\nDEL\r\n$9\r\ngray",
        b"",
    ],
)  # fmt: skip
def test_commands_of_no_backup_are_damage(tmp_path: Path, data: bytes) -> None:
    path = rewritten(make(tmp_path / "b", [(b"DEL", b"graycat:a")]), BROKER, lambda _: data)

    def sign(text: bytes) -> bytes:
        manifest = json.loads(text)
        manifest["sha256"][BROKER] = sha256(data).hexdigest()
        return json.dumps(manifest).encode()

    with pytest.raises(BackupError, match="is damaged"):
        verified(rewritten(path, MANIFEST, sign))


def test_parts_that_the_manifest_does_not_name_are_damage(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="its parts"):
        verified(rewritten(make(tmp_path / "b"), "home/token-key", lambda _: b"x"))
