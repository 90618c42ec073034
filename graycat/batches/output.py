"""The output of a batch: its images, ``manifest.jsonl`` and ``batch.json``, in one folder of any file system.

A file gets its final name only once it is whole. The manifest has one line for each image. A line or a file that a
killed process has left half-written is never used.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from hashlib import sha256
from typing import Any
from uuid import uuid4

from fsspec.implementations.local import LocalFileSystem

from graycat.batches.errors import OutputUnavailable
from graycat.batches.spec import filenames, options
from graycat.bounds.stored import parse_json
from graycat.errors import SettingsError
from graycat.settings import Settings, variable
from graycat.storage import filesystems
from graycat.storage.filesystems import StorageRoot

MANIFEST, BATCH_INFO = "manifest.jsonl", "batch.json"
#: The suffix of a file that is not whole yet.
PART_SUFFIX = ".part"
#: Error codes of a full file system, and of a user who has reached a quota.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: A batch that was paused for lack of space resumes once this many bytes fit.
PROBE_BYTES = 1 << 20

#: A line of the manifest; ``graycat.batches.manifest`` builds it.
ManifestEntry = dict[str, Any]
#: Fields that every entry must have, with their types.
_REQUIRED_FIELDS = {"item": int, "request": dict, "file": str, "sha256": str}


class Output:
    """The folder of one batch. Every method raises OutputUnavailable. Not thread-safe."""

    def __init__(self, root: StorageRoot, folder: str) -> None:
        self._fs = root.fs
        self._atomic_writes = root.atomic_writes
        self._folder = f"{root.path.rstrip('/')}/{folder}"
        self._entries: dict[int, ManifestEntry] | None = None
        #: Whether the manifest may end in half a line.
        self._partial_line = False
        #: Whether a line can be appended to a file. If not, each change rewrites the whole manifest.
        self.can_append = isinstance(self._fs, LocalFileSystem)

    @property
    def entries(self) -> dict[int, ManifestEntry]:
        """Return the manifest's entries by item number. The file is read at the first access only."""
        if self._entries is None:
            with _file_errors():
                text = self._read(MANIFEST) or b""
                self._partial_line = bool(text) and not text.endswith(b"\n")
                self._entries = _parse_manifest(text)
        return self._entries

    def add_entries(self, entries: Sequence[ManifestEntry]) -> None:
        """Add entries to the manifest, at most one for each item. Nothing is written if all are in it already."""
        new: dict[int, ManifestEntry] = {}
        for entry in entries:
            if self.entries.get(entry["item"]) != entry:
                new[entry["item"]] = entry
        if not new:
            return

        merged = self.entries | new
        replaces = not new.keys().isdisjoint(self.entries)
        if not self.can_append or self._partial_line or replaces:
            self._write(MANIFEST, _encode_manifest(merged))
        else:
            self._append_to_manifest(_encode_manifest(new))
        self._entries = merged
        self._partial_line = False

    def rewrite_manifest(self, entries: Iterable[ManifestEntry]) -> None:
        """Write the manifest anew, ordered by item number, and delete files that killed processes have left."""
        ordered = {entry["item"]: entry for entry in sorted(entries, key=lambda entry: int(entry["item"]))}
        self._write(MANIFEST, _encode_manifest(ordered))
        self._entries = ordered
        self._partial_line = False

        with _file_errors(), suppress(FileNotFoundError):
            for path in self._fs.find(self._folder):
                name = str(path).rpartition("/")[2]
                if name.startswith(".") and name.endswith(PART_SUFFIX):
                    self._fs.rm_file(path)

    def is_intact(self, entry: ManifestEntry) -> bool:
        """Return whether an entry's file exists and has the entry's SHA-256."""
        data = self.read(entry["file"])
        return data is not None and sha256(data).hexdigest() == entry["sha256"]

    def read(self, file: str) -> bytes | None:
        """Return a file's bytes, or None if there is no such file."""
        _check_file_name(file)
        with _file_errors():
            return self._read(file)

    def write(self, file: str, data: bytes) -> None:
        """Write a file, replacing any file of the same name."""
        _check_file_name(file)
        self._write(file, data)

    def read_info(self) -> dict[str, Any]:
        """Return the content of ``batch.json``; empty if there is no such file."""
        try:
            info = parse_json(self.read(BATCH_INFO) or b"{}")
        except ValueError:
            raise OutputUnavailable(f"its {BATCH_INFO} is damaged") from None
        if not isinstance(info, dict):
            return {}
        return info

    def write_info(self, info: Mapping[str, Any]) -> None:
        """Write ``batch.json``."""
        self._write(BATCH_INFO, json.dumps(info, indent=1).encode())

    def check_space(self) -> None:
        """Write a file of PROBE_BYTES and delete it again, to find out whether there is space."""
        self._write(f".{uuid4().hex}.probe", bytes(PROBE_BYTES), keep=False)

    def _read(self, file: str) -> bytes | None:
        try:
            data: bytes = self._fs.cat_file(f"{self._folder}/{file}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        return data

    def _append_to_manifest(self, data: bytes) -> None:
        # Set until the whole write has succeeded.
        self._partial_line = True
        with _file_errors():
            self._fs.makedirs(self._folder, exist_ok=True)
            with self._fs.open(f"{self._folder}/{MANIFEST}", "ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

    def _write(self, file: str, data: bytes, *, keep: bool = True) -> None:
        """Write a file under a temporary name (if the file system needs that), then rename it."""
        path = f"{self._folder}/{file}"
        folder, _, name = path.rpartition("/")
        part = path
        if not self._atomic_writes:
            part = f"{folder}/.{name[:100]}.{uuid4().hex}{PART_SUFFIX}"

        with _file_errors():
            if not self._atomic_writes:
                self._fs.makedirs(folder, exist_ok=True)
            try:
                self._write_bytes(part, data)
                if part != path and keep:
                    self._fs.mv(part, path)
            finally:
                if part != path or not keep:
                    with suppress(OSError):
                        self._fs.rm_file(part)

    def _write_bytes(self, path: str, data: bytes) -> None:
        if not self.can_append:
            self._fs.pipe_file(path, data)
            return
        with self._fs.open(path, "wb") as file:
            file.write(data)
            file.flush()
            # After a power failure, the file must not have its final name without its bytes.
            os.fsync(file.fileno())


class Outputs:
    """Opens the outputs of batches. Each store is opened once in a process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._roots: dict[str, StorageRoot] = {}

    def open(self, store: str, folder: str) -> Output:
        """Return the output of a batch by the ``store`` and ``folder`` of its record. Raises OutputUnavailable."""
        if store not in self._roots:
            try:
                self._roots[store] = self._open_root(store)
            except SettingsError as error:
                raise OutputUnavailable(str(error)) from None
        return Output(self._roots[store], folder)

    def _open_root(self, store: str) -> StorageRoot:
        if not store:
            url = self._settings.batch_dir or str((self._settings.home / "batches").resolve())
            return filesystems.open_url(url, variable("batch_dir"))

        url = options.parse_stores(self._settings).get(store, "")
        if not url:
            raise OutputUnavailable(f"this machine has no store {store!r} in {variable('batch_stores')}")
        return filesystems.open_url(url, variable("batch_stores"))


def batch_folder(owner: str, pattern: str, values: Mapping[str, Any]) -> str:
    """Return a batch's folder, relative to its store. Two owners never share a folder."""
    owner_folder = filenames.slugify(owner) or "owner"
    if owner_folder != owner:
        # Two owners may have the same slug.
        owner_folder += "-" + sha256(owner.encode()).hexdigest()[:8]
    return f"{owner_folder}/{filenames.fill_pattern(pattern, values)}"


def _check_file_name(file: str) -> None:
    """Raise OutputUnavailable for a name that leads out of the folder: others may have changed the manifest."""
    parts = file.split("/")
    if not file or "\\" in file or any(not part or part.startswith(".") for part in parts):
        raise OutputUnavailable("its manifest names a file outside of its folder")


def _parse_manifest(text: bytes) -> dict[int, ManifestEntry]:
    entries = {}
    for line in text.splitlines():
        with suppress(ValueError):
            entry = parse_json(line)
            if _is_entry(entry):
                entries[entry["item"]] = entry
    return entries


def _is_entry(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return all(isinstance(value.get(name), type_) for name, type_ in _REQUIRED_FIELDS.items())


def _encode_manifest(entries: Mapping[int, ManifestEntry]) -> bytes:
    return b"".join(json.dumps(entry).encode() + b"\n" for entry in entries.values())


def _file_errors() -> AbstractContextManager[None]:
    return filesystems.translate_errors(_unavailable)


def _unavailable(error: Exception) -> OutputUnavailable:
    """Return the error with which a batch's output reports an error of its file system.

    The file system's own message is left out: it may hold a URL, and that may hold a password.
    """
    if not isinstance(error, OSError):
        return OutputUnavailable(type(error).__name__)
    if error.errno in NO_SPACE:
        return OutputUnavailable("there is no space left")
    code = errno.errorcode.get(error.errno or 0, "")
    return OutputUnavailable(f"{type(error).__name__} {code}".rstrip())
