from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from graycat.errors import SettingsError
from graycat.storage.artifacts import Artifact
from graycat.storage.errors import ArtifactBroken, ArtifactsUnavailable
from graycat.storage.file_artifacts import FileArtifacts
from tests.support.helpers import run

IMAGE, OTHER = b"an image" * 100, b"another" * 100
TTL_S = 60.0


@dataclass
class Clock:
    now: float

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def artifacts(folder: Path, clock: Clock) -> FileArtifacts:
    return FileArtifacts(f"file://{folder}", TTL_S, clock)


def put(artifacts: FileArtifacts, number: int = 0, data: bytes = IMAGE, task_id: str = "a-task") -> Artifact:
    return artifacts.put(task_id, number, data, "image/png", "game")


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_description_lies_beside_the_bytes(artifacts: FileArtifacts, folder: Path) -> None:
    artifact = put(artifacts)
    assert files(folder) == [f"task-a-task/0-{artifact.sha256}.data", "task-a-task/0.json"]
    described = json.loads((folder / "task-a-task" / "0.json").read_text())
    assert (described["owner"], described["size"], described["content_type"]) == ("game", len(IMAGE), "image/png")


@pytest.mark.parametrize("task_id", [".", "..", "...", ".hidden"])
def test_no_id_leads_out_of_the_folder(artifacts: FileArtifacts, folder: Path, task_id: str) -> None:
    put(artifacts, task_id=task_id)
    assert [path.name for path in folder.parent.iterdir()] == ["images"]
    assert [path.name for path in folder.iterdir()] == [f"task-{task_id}"]
    artifacts.delete(task_id)
    assert folder.is_dir()
    assert files(folder) == []


def test_the_same_bytes_again_write_nothing(artifacts: FileArtifacts, folder: Path, clock: Clock) -> None:
    put(artifacts)
    before = [(path, path.stat().st_mtime_ns, path.stat().st_ino) for path in sorted(folder.rglob("*"))]
    clock.now += 10
    put(artifacts)
    assert [(path, path.stat().st_mtime_ns, path.stat().st_ino) for path in sorted(folder.rglob("*"))] == before


def data_file(folder: Path, artifact: Artifact) -> Path:
    return folder / f"task-{artifact.task_id}" / f"{artifact.number}-{artifact.sha256}.data"


@pytest.mark.parametrize("content", [b"", IMAGE[:-1], OTHER, IMAGE[:-1] + b"?"])
def test_a_broken_file_is_an_error_and_no_wrong_image(artifacts: FileArtifacts, folder: Path, content: bytes) -> None:
    path = data_file(folder, put(artifacts))
    path.write_bytes(content)
    with pytest.raises(ArtifactBroken):
        artifacts.get("a-task", 0)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '"text"', '{"expires_at": 9e9}', '{"expires_at": "soon"}'])
def test_a_broken_description_is_an_error(artifacts: FileArtifacts, folder: Path, content: str) -> None:
    put(artifacts)
    (folder / "task-a-task" / "0.json").write_text(content)
    with pytest.raises(ArtifactBroken):
        artifacts.get("a-task", 0)
    assert artifacts.describe("a-task") == []
    put(artifacts)
    assert artifacts.get("a-task", 0)


def test_a_description_of_another_task_is_an_error(artifacts: FileArtifacts, folder: Path) -> None:
    put(artifacts)
    (folder / "task-a-task").rename(folder / "task-another")
    with pytest.raises(ArtifactBroken):
        artifacts.get("another", 0)


def test_bytes_that_are_gone_are_stored_again(artifacts: FileArtifacts, folder: Path) -> None:
    artifact = put(artifacts)
    data_file(folder, artifact).unlink()
    assert (artifacts.get("a-task", 0), artifacts.describe("a-task")) == (None, [])
    put(artifacts)
    assert artifacts.get("a-task", 0) == (artifact, IMAGE)


def test_a_writer_that_dies_leaves_what_was_there(
    artifacts: FileArtifacts, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let the disk fail at each step of a replacement in turn."""
    old = put(artifacts)
    steps = [("pipe_file", 1), ("mv", 1), ("pipe_file", 2), ("mv", 2)]
    for name, fatal in steps:
        with monkeypatch.context() as patched:
            calls = iter(range(1, 10))
            original: Callable[..., Any] = getattr(artifacts._fs, name)

            def fail(*args: Any, original: Any = original, calls: Any = calls, fatal: int = fatal) -> Any:
                if next(calls) == fatal:
                    raise OSError("the disk is full")
                return original(*args)

            patched.setattr(artifacts._fs, name, fail)
            with pytest.raises(ArtifactsUnavailable):
                put(artifacts, data=OTHER)
        assert artifacts.get("a-task", 0) == (old, IMAGE)
    assert [name for name in files(folder) if name.endswith(".part")]
    new = put(artifacts, data=OTHER)
    assert artifacts.get("a-task", 0) == (new, OTHER)


def test_an_image_past_its_lifetime_is_gone_swept_or_not(artifacts: FileArtifacts, clock: Clock) -> None:
    put(artifacts)
    clock.now += TTL_S - 1
    assert artifacts.get("a-task", 0)
    clock.now += 1
    assert (artifacts.get("a-task", 0), artifacts.describe("a-task")) == (None, [])


def test_a_sweep_deletes_what_is_past_its_lifetime_and_of_ours(artifacts: FileArtifacts, folder: Path) -> None:
    put(artifacts, task_id="old")
    put(artifacts, data=OTHER, task_id="old")
    put(artifacts, task_id="young")
    theirs = [folder / "notes.txt", folder / "task-old" / "holiday.png", folder / "task-x" / "y" / "0.json"]
    for path in theirs:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("not ours")
    part = folder / "task-dead" / f"0.json.{uuid4().hex}.part"
    part.parent.mkdir()
    part.write_text("half")
    now = time.time()
    for path in [*theirs, part, *(folder / "task-old").iterdir()]:
        os.utime(path, (now - TTL_S - 5, now - TTL_S - 5))
    assert artifacts.sweep(now) == 4
    assert files(folder) == sorted([*(path.relative_to(folder).as_posix() for path in theirs), *young(artifacts)])
    assert not part.parent.exists()
    assert artifacts.sweep(now) == 0


def young(artifacts: FileArtifacts) -> list[str]:
    artifact = artifacts.describe("young")[0]
    return [f"task-young/0-{artifact.sha256}.data", "task-young/0.json"]


def test_a_sweep_leaves_no_empty_folder(artifacts: FileArtifacts, folder: Path) -> None:
    assert artifacts.sweep(time.time()) == 0
    for number in range(3):
        put(artifacts, number)
    assert artifacts.sweep(time.time() + TTL_S + 5) == 6
    assert list(folder.iterdir()) == []


def test_memory_is_swept_too() -> None:
    artifacts = FileArtifacts(f"memory://{uuid4().hex}", TTL_S)
    put(artifacts)
    assert artifacts.sweep(time.time()) == 0
    assert artifacts.get("a-task", 0)
    assert artifacts.sweep(time.time() + TTL_S + 5) == 2
    assert artifacts.get("a-task", 0) is None


def test_a_folder_that_cannot_be_used_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    artifacts = FileArtifacts(f"file://{tmp_path}/file", TTL_S)
    for call in (lambda: put(artifacts), lambda: artifacts.get("a", 0), lambda: artifacts.describe("a")):
        with pytest.raises(ArtifactsUnavailable):
            call()


@pytest.mark.parametrize("url", ["nosuch://me:hush-hush@host/images", "dropbox://me:hush-hush@host/x"])
def test_an_address_that_cannot_be_used_names_its_variable_and_no_password(url: str) -> None:
    with pytest.raises(SettingsError, match="GRAYCAT_ARTIFACTS_URL") as caught:
        FileArtifacts(url, TTL_S)
    assert "hush" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_nothing_of_an_address_shows(folder: Path) -> None:
    assert str(folder) not in repr(FileArtifacts(f"file://{folder}", TTL_S))


# In a bucket, where moto and s3fs are installed.


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the address of an empty bucket."""
    s3fs = pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    names = {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "hush-hush", "DEFAULT_REGION": "us-east-1"}
    for name, value in (names | {"ENDPOINT_URL": f"http://{host}:{port}"}).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    boto3 = pytest.importorskip("boto3")
    name = f"images-{uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=name)
    yield f"s3://{name}/some/prefix"
    # Another test's server has another port.
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.mark.filterwarnings("ignore")
def test_a_bucket_does_what_a_folder_does(bucket: str) -> None:
    artifacts = FileArtifacts(bucket, TTL_S)
    data = os.urandom(10_000_000)
    artifact = put(artifacts, data=data)
    assert artifacts.get("a-task", 0) == (artifact, data)
    replaced = put(artifacts, data=OTHER)
    put(artifacts, data=OTHER)
    assert FileArtifacts(bucket, TTL_S).describe("a-task") == [replaced]
    assert (artifacts.get("a-task", 1), artifacts.describe("no-task")) == (None, [])
    artifacts.delete("no-task")
    assert artifacts.sweep(time.time()) == 0
    assert artifacts.sweep(time.time() + TTL_S + 5) == 3
    put(artifacts, number=7)
    artifacts.delete("a-task")
    assert (artifacts.get("a-task", 7), artifacts.sweep(4e9)) == (None, 0)


@pytest.mark.filterwarnings("ignore")
def test_greenlets_may_read_a_bucket(bucket: str) -> None:
    """Read as a web process does: its threads are greenlets, in which fsspec by itself cannot run."""
    artifact = put(FileArtifacts(bucket, TTL_S))
    code = f"""
from gevent import monkey; monkey.patch_all()
import gevent
from graycat.storage.file_artifacts import FileArtifacts
artifacts = FileArtifacts({bucket!r}, {TTL_S})
readers = [gevent.spawn(artifacts.get, "a-task", 0) for _ in range(4)]
gevent.joinall(readers, timeout=5)
print([reader.value[0].sha256 for reader in readers])
"""
    outcome = run([sys.executable, "-c", code])
    assert outcome.stdout == f"{[artifact.sha256] * 4}\n", outcome.stderr


def test_without_gevent_fsspec_uses_its_own_loop() -> None:
    before = threading.active_count()
    FileArtifacts("memory://", TTL_S)
    assert threading.active_count() == before
