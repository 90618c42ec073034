"""Where a batch's files lie: its images, the manifest and ``batch.json``, in one folder of any file system.

A file gets its name when it is whole. The manifest grows by a line an image; what a kill has left of a line, or of a
file, is never taken for one.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import Any
from uuid import uuid4

from fsspec.implementations.local import LocalFileSystem

from graycat.batches.errors import OutputUnavailable
from graycat.batches.spec import filenames, options
from graycat.errors import GraycatError, SettingsError
from graycat.settings import Settings, variable
from graycat.storage import filesystems
from graycat.storage.filesystems import Opened

MANIFEST, BATCH = "manifest.jsonl", "batch.json"
#: What a file is called until it is whole.
PART = ".part"
#: What a file system without room, or a user without any left, says.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: Bytes that must fit before a batch without room goes on by itself.
PROBE_BYTES = 1 << 20

ManifestEntry = dict[str, Any]
#: What a line must have to be one.
_TYPES = {"item": int, "request": dict, "file": str, "sha256": str}


class Output:
    """One batch's folder. Every method raises OutputUnavailable. Used by one thread at a time."""

    def __init__(self, opened: Opened, folder: str) -> None:
        self._fs = opened.fs
        self._whole = opened.appears_whole
        self._root = f"{opened.root.rstrip('/')}/{folder}"
        self._lines: dict[int, ManifestEntry] | None = None
        #: Whether the manifest may end in half a line.
        self._torn = False
        #: Whether a line can be added to a file; where not, the manifest is written anew each time.
        self.appends = isinstance(self._fs, LocalFileSystem)

    @property
    def lines(self) -> dict[int, ManifestEntry]:
        """Return the manifest's lines by their items' numbers, as of when they were first looked at."""
        if self._lines is None:
            with _errors():
                text = self._read(MANIFEST) or b""
                self._torn = bool(text) and not text.endswith(b"\n")
                self._lines = {line["item"]: line for line in _parsed(text)}
        return self._lines

    def note(self, lines: Sequence[ManifestEntry]) -> None:
        """Add lines to the manifest, each item's once; those that are there already cost nothing."""
        new = [line for line in lines if self.lines.get(line["item"]) != line]
        if not new:
            return
        replaces = any(line["item"] in self.lines for line in new)
        known = self.lines | {line["item"]: line for line in new}
        if not self.appends or self._torn or replaces:
            self._write(MANIFEST, _encoded(known))
        else:
            self._append(_encoded({line["item"]: line for line in new}))
        self._lines, self._torn = known, False

    def rewrite(self, lines: Iterable[ManifestEntry]) -> None:
        """Write the manifest anew, in the order of the items, and take away what kills have left."""
        known = {line["item"]: line for line in lines}
        self._write(MANIFEST, _encoded(dict(sorted(known.items()))))
        self._lines, self._torn = known, False
        with _errors(), suppress(FileNotFoundError):
            for path in self._fs.find(self._root):
                name = str(path).rpartition("/")[2]
                if name.startswith(".") and name.endswith(PART):
                    self._fs.rm_file(path)

    def is_good(self, line: ManifestEntry) -> bool:
        """Tell whether a line's file is there, as the line has it."""
        data = self.read(line["file"])
        return data is not None and sha256(data).hexdigest() == line["sha256"]

    def read(self, file: str) -> bytes | None:
        """Return a file's bytes; None where there is none."""
        with _errors():
            return self._read(_inside(file))

    def write(self, file: str, data: bytes) -> None:
        """Write a file, in the place of one of the same name."""
        self._write(_inside(file), data)

    def about(self) -> dict[str, Any]:
        """Return what ``batch.json`` says; empty where there is none."""
        try:
            found = json.loads(self.read(BATCH) or b"{}")
        except ValueError:
            raise OutputUnavailable(f"its {BATCH} is damaged") from None
        return found if isinstance(found, dict) else {}

    def tell(self, about: Mapping[str, Any]) -> None:
        """Write ``batch.json``."""
        self._write(BATCH, json.dumps(about, indent=1).encode())

    def probe(self) -> None:
        """Find out whether there is room again."""
        self._write(f".{uuid4().hex}.probe", bytes(PROBE_BYTES), keep=False)

    def _read(self, file: str) -> bytes | None:
        try:
            data: bytes = self._fs.cat_file(f"{self._root}/{file}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        return data

    def _append(self, data: bytes) -> None:
        self._torn = True
        with _errors():
            self._fs.makedirs(self._root, exist_ok=True)
            with self._fs.open(f"{self._root}/{MANIFEST}", "ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

    def _write(self, file: str, data: bytes, *, keep: bool = True) -> None:
        path = f"{self._root}/{file}"
        folder, _, name = path.rpartition("/")
        part = path if self._whole else f"{folder}/.{name[:100]}.{uuid4().hex}{PART}"
        with _errors():
            if not self._whole:
                self._fs.makedirs(folder, exist_ok=True)
            try:
                self._put(part, data)
                if part != path and keep:
                    self._fs.mv(part, path)
            finally:
                if part != path or not keep:
                    with suppress(OSError):
                        self._fs.rm_file(part)

    def _put(self, path: str, data: bytes) -> None:
        if not self.appends:
            self._fs.pipe_file(path, data)
            return
        with self._fs.open(path, "wb") as file:
            file.write(data)
            file.flush()
            # The name must not be there before the bytes, whatever the power does.
            os.fsync(file.fileno())


class Outputs:
    """The outputs of batches, each store opened once a process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened: dict[str, Opened] = {}

    def of(self, store: str, folder: str) -> Output:
        """Return the output of a batch, by the ``store`` and ``folder`` of its record. Raises OutputUnavailable."""
        if store not in self._opened:
            try:
                self._opened[store] = self._open(store)
            except SettingsError as error:
                raise OutputUnavailable(str(error)) from None
        return Output(self._opened[store], folder)

    def _open(self, store: str) -> Opened:
        if not store:
            address = self._settings.batch_dir or str((self._settings.home / "batches").resolve())
            return filesystems.open_url(address, variable("batch_dir"))
        if address := options.stores(self._settings).get(store, ""):
            return filesystems.open_url(address, variable("batch_stores"))
        raise OutputUnavailable(f"this machine has no store {store!r} in {variable('batch_stores')}")


def folder_of(owner: str, pattern: str, values: Mapping[str, Any]) -> str:
    """Return the folder of a batch below its store's: no two owners share one."""
    own = filenames.slug(owner) or "owner"
    if own != owner:
        own += "-" + sha256(owner.encode()).hexdigest()[:8]
    return f"{own}/{filenames.filled(pattern, values)}"


def _inside(file: str) -> str:
    """Return a file's name. Raises OutputUnavailable for one that leads elsewhere: a manifest may have been changed."""
    if not file or any(not part or part.startswith(".") for part in file.split("/")) or "\\" in file:
        raise OutputUnavailable("its manifest names a file that cannot be one of its own")
    return file


def _parsed(text: bytes) -> Iterator[ManifestEntry]:
    for raw in text.splitlines():
        with suppress(ValueError):
            line = json.loads(raw)
            if isinstance(line, dict) and all(isinstance(line.get(name), kind) for name, kind in _TYPES.items()):
                yield line


def _encoded(lines: Mapping[int, ManifestEntry]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines.values())


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except GraycatError:
        raise
    except Exception as error:  # each file system has errors of its own, few of them an OSError
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise OutputUnavailable("there is no space left") from error
        # Its text may hold an address, and that a password.
        code = errno.errorcode.get(error.errno or 0, "") if isinstance(error, OSError) else ""
        raise OutputUnavailable(" ".join(filter(None, (type(error).__name__, code)))) from error
