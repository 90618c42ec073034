from __future__ import annotations

import errno
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from graycat.batches.errors import OutputUnavailable
from graycat.batches.output import Output, Outputs, batch_folder
from graycat.settings import Settings
from graycat.storage.filesystems import StorageRoot

DATA = b"an image"


def line(item: int, file: str = "a.png", data: bytes = DATA) -> dict[str, Any]:
    return {"item": item, "file": file, "sha256": sha256(data).hexdigest(), "request": {"seed": item}}


class Bucket(MemoryFileSystem):
    """A store that cannot add to a file, as a bucket."""

    store: dict[str, Any] = {}
    pseudo_dirs: list[str] = [""]
    cachable = False
    full = False

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().pipe_file(path, value, **options)


@pytest.fixture(params=["folder", "bucket", "remote"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Output:
    """Return an output in a folder, in a bucket, and on a file system elsewhere."""
    if request.param == "folder":
        return Outputs(Settings(batch_dir=str(tmp_path))).open("", "tests/x")
    Bucket.store.clear()
    return Output(StorageRoot(Bucket(), "/root", atomic_writes=request.param == "bucket"), "tests/x")


def again(output: Output) -> Output:
    """Return the same output as another process sees it."""
    return Output(StorageRoot(output._fs, output._folder.rpartition("/tests/")[0], output._atomic_writes), "tests/x")


def test_what_is_written_is_read(output: Output) -> None:
    output.write("sub/a.png", DATA)
    output.write("sub/a.png", DATA + b"!")
    assert again(output).read("sub/a.png") == DATA + b"!"
    assert output.read("sub/b.png") is None
    assert output.read("sub/a.png/b.png") is None


def test_the_manifest_has_each_item_once(output: Output) -> None:
    assert output.entries == {}
    output.add_entries([line(2), line(1)])
    output.add_entries([line(2)])
    output.add_entries([line(1, "other.png"), line(3)])
    assert again(output).entries == {1: line(1, "other.png"), 2: line(2), 3: line(3)}
    output.rewrite_manifest(output.entries.values())
    text = output.read("manifest.jsonl")
    assert text is not None
    assert [json.loads(one)["item"] for one in text.splitlines()] == [1, 2, 3]


def test_half_a_line_is_ignored_and_the_next_line_is_whole(output: Output) -> None:
    output.add_entries([line(1)])
    whole = output.read("manifest.jsonl")
    assert whole is not None
    output.write("manifest.jsonl", whole + b'{"item": 2, "fi')
    later = again(output)
    assert later.entries == {1: line(1)}
    later.add_entries([line(2)])
    assert again(output).entries == {1: line(1), 2: line(2)}


@pytest.mark.parametrize("text", [b"\n\n[]\n3\nnull\n", b'{"item": "1"}\n', b"\xff\xfe\n", b'{"item": 1, "file": 2}\n'])
def test_invalid_lines_are_ignored(output: Output, text: bytes) -> None:
    output.write("manifest.jsonl", text)
    assert again(output).entries == {}


def test_a_file_is_intact_if_it_has_its_entry_s_hash(output: Output) -> None:
    output.write("a.png", DATA)
    assert output.is_intact(line(1))
    assert not output.is_intact(line(1, data=b"another"))
    assert not output.is_intact(line(1, "b.png"))


@pytest.mark.parametrize("file", ["../x", "/etc/passwd", "a/../../x", ".hidden", "", "a\\b"])
def test_a_manifest_cannot_lead_out_of_the_folder(output: Output, file: str) -> None:
    for action in (lambda: output.read(file), lambda: output.write(file, b""), lambda: output.is_intact(line(1, file))):
        with pytest.raises(OutputUnavailable):
            action()


def test_what_it_says_of_the_batch(output: Output) -> None:
    assert output.read_info() == {}
    output.write_info({"batch": "x"})
    assert again(output).read_info() == {"batch": "x"}
    output.write("batch.json", b"{")
    with pytest.raises(OutputUnavailable, match=r"batch\.json is damaged"):
        again(output).read_info()


def test_nothing_is_left_half_written(tmp_path: Path) -> None:
    output = Outputs(Settings(batch_dir=str(tmp_path))).open("", "x")
    output.write("a.png", DATA)
    output.check_space()
    (tmp_path / "x" / ".b.png.0123.part").write_bytes(b"half")
    output.rewrite_manifest([line(1)])
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["a.png", "manifest.jsonl"]


def test_a_full_disk_is_reported_and_existing_files_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    Bucket.store.clear()
    output = Output(StorageRoot(Bucket(), "/root", atomic_writes=False), "x")
    output.write("a.png", DATA)
    monkeypatch.setattr(Bucket, "full", True)
    for action in (lambda: output.write("a.png", b"new"), lambda: output.add_entries([line(1)]), output.check_space):
        with pytest.raises(OutputUnavailable, match="there is no space left"):
            action()
    monkeypatch.setattr(Bucket, "full", False)
    assert output.read("a.png") == DATA
    output.add_entries([line(1)])
    assert output.entries == {1: line(1)}


def test_an_error_of_the_file_system_holds_no_address(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("in the way")
    output = Outputs(Settings(batch_dir=str(tmp_path))).open("", "x")
    with pytest.raises(OutputUnavailable) as caught:
        output.write("a.png", DATA)
    assert str(tmp_path) not in str(caught.value)
    assert caught.value.reason


def test_stores_are_those_that_the_operator_names(tmp_path: Path) -> None:
    outputs = Outputs(Settings(batch_stores=f"art={tmp_path}/art, wall=file://{tmp_path}/wall"))
    for store in ("art", "wall"):
        outputs.open(store, "x").write("a.png", DATA)
        assert (tmp_path / store / "x" / "a.png").read_bytes() == DATA
    for store in ("other", "../art"):
        with pytest.raises(OutputUnavailable, match="GRAYCAT_BATCH_STORES"):
            outputs.open(store, "x")
    with pytest.raises(OutputUnavailable, match="GRAYCAT_BATCH_DIR"):
        Outputs(Settings(batch_dir="nosuch://secret@host/x")).open("", "x")


def test_by_default_batches_lie_in_the_home(tmp_path: Path) -> None:
    Outputs(Settings(home=tmp_path)).open("", "x").write("a.png", DATA)
    assert (tmp_path / "batches" / "x" / "a.png").read_bytes() == DATA


def test_no_two_owners_share_a_folder() -> None:
    owners = ["game", "Game", "game/player", "game-player", "../game", ""]
    folders = [batch_folder(owner, "{name}", {"name": "x"}) for owner in owners]
    assert len(set(folders)) == len(folders)
    assert folders[0] == "game/x"
    assert all(".." not in folder and folder.count("/") == 1 for folder in folders)
