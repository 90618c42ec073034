"""The file of a backup: a zip file, which other programs can look into.

``manifest.json`` says what is in it, ``broker.resp`` has the commands that write the broker's keys, in the broker's own
protocol, and ``home/`` the files of the home. The manifest comes last: without it a file is not whole.
"""

from __future__ import annotations

import errno
import json
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import hiredis

from graycat.backup import contents
from graycat.backup.errors import BackupError
from graycat.backup.values import COMMANDS, VARIABLE, Row

#: The form of a backup. A release reads its own and older ones.
FORMAT = 1
MANIFEST, BROKER, HOME = "manifest.json", "broker.resp", "home/"
#: Bytes that are read at once, and the most of a manifest.
CHUNK_BYTES, MANIFEST_BYTES = 256 * 1024, 64 * 1024 * 1024
#: Little work for the processor: the largest part, images, cannot be compressed.
LEVEL = 1
_DAMAGED = "is damaged"
#: What ``zipfile`` and ``json`` raise for a damaged file, with OSError; for an encrypted part and for lists in lists in
#: lists, RuntimeError.
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError),
    *(LookupError, ValueError, RuntimeError, NotImplementedError),
)
#: What a manifest says, each with a value of its type, which stands for it where it lacks.
_SAID: dict[str, Any] = {
    **dict.fromkeys(("id", "graycat", "taken_at", "token_key"), ""),
    **dict.fromkeys(("rows", "keys", "memory_bytes"), 0),
    **dict.fromkeys(("counts", "sha256", "broker"), {}),
}


class BackupWriter:
    """Writes a backup. Nothing is to be seen under its name before it is whole; see ``new_backup``."""

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL)
        self._digests: dict[str, str] = {}
        self._rows = 0

    @contextmanager
    def rows(self) -> Iterator[Callable[[Row], None]]:
        """Yield what writes a row of the broker's keys. Raises OSError."""
        digest = sha256()
        with self._zip.open(BROKER, "w", force_zip64=True) as part:

            def write(row: Row) -> None:
                data = hiredis.pack_command(row)  # type: ignore[arg-type]
                digest.update(data)
                part.write(data)
                self._rows += 1

            yield write
        self._digests[BROKER] = digest.hexdigest()

    def add(self, name: str, source: Path) -> None:
        """Add a file of the home under a name; one that is gone by now is left out. Raises BackupError, OSError."""
        digest = sha256()
        try:
            file = source.open("rb")
        except FileNotFoundError:
            return
        except OSError as error:
            raise BackupError(f"{source} cannot be read: {error.strerror}") from error
        with file, self._zip.open(HOME + name, "w", force_zip64=True) as part:
            while data := file.read(CHUNK_BYTES):
                digest.update(data)
                part.write(data)
        self._digests[HOME + name] = digest.hexdigest()

    def finish(self, manifest: dict[str, Any]) -> None:
        """Write the manifest with the checksums of all parts, and end the file. Raises OSError."""
        whole = {"format": FORMAT, **manifest, "rows": self._rows, "sha256": self._digests}
        self._zip.writestr(MANIFEST, json.dumps(whole, indent=2))
        self._zip.close()

    def abandon(self) -> None:
        """End the file as it is."""
        # It would write its end when it is collected, and complain about it.
        self._zip.fp = None


@contextmanager
def new_backup(path: Path, *, overwrite: bool) -> Iterator[BackupWriter]:
    """Yield the writer of a new backup, which appears under its name when the block has ended well.

    Only its owner can read it. Raises BackupError, also if the file exists and ``overwrite`` is not set.
    """
    if not overwrite and os.path.lexists(path):
        raise BackupError(f"{path} exists: choose another name, or give --overwrite")
    if path.exists() and not path.is_file():
        raise BackupError(f"{path} is no file: choose another name")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise BackupError(f"{path} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            writer = BackupWriter(file)
            try:
                yield writer
            except BaseException:
                writer.abandon()
                raise
            file.flush()
            os.fsync(file.fileno())
        _appear(partial, path, overwrite=overwrite)
    except OSError as error:
        reason = error.strerror
        if error.errno == errno.ENOSPC:
            reason = "the disk is full"
        raise BackupError(f"{path} cannot be written: {reason}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _appear(partial: Path, path: Path, *, overwrite: bool) -> None:
    """Give a whole file its name. Raises BackupError if another one has it meanwhile."""
    if overwrite:
        partial.replace(path)
        return
    try:
        # Unlike a rename, this overwrites nothing.
        os.link(partial, path)
    except FileExistsError:
        raise BackupError(f"{path} exists: choose another name, or give --overwrite") from None
    except OSError:
        # A file system without links.
        partial.replace(path)


class BackupFile:
    """A backup to be restored. ``open`` reads its manifest; ``verify`` all of it."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self._zip = archive

    @classmethod
    def open(cls, path: Path) -> BackupFile:
        """Open a file. Raises BackupError if it cannot be read, or is no backup that this release reads."""
        if path.exists() and not path.is_file():
            # To open a pipe would wait for somebody who writes to it.
            raise BackupError(f"{path} cannot be read: it is no file")
        try:
            archive = zipfile.ZipFile(path)
        except OSError as error:
            raise BackupError(f"{path} cannot be read: {error.strerror or error}") from error
        except _UNREADABLE as error:
            raise BackupError(f"{path} is no backup of graycat, or is not whole") from error
        try:
            return cls(path, archive, _read_manifest(path, archive))
        except BaseException:
            archive.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def verify(self) -> None:
        """Read all of it. Raises BackupError if anything differs from what was written."""
        digests = self.manifest.get("sha256")
        names = self._zip.namelist()
        if not isinstance(digests, dict) or sorted(names) != sorted([*digests, MANIFEST]) or BROKER not in digests:
            raise BackupError(f"{self.path} {_DAMAGED}: its parts are not those that it names")
        for name, digest in digests.items():
            found = sha256()
            for data in self._chunks(name):
                found.update(data)
            if found.hexdigest() != digest:
                raise BackupError(f"{self.path} {_DAMAGED}: {name} is not what was written")
        count = 0
        for row in self.rows():
            self._check_row(row)
            count += 1
        if count != self.manifest.get("rows"):
            raise BackupError(f"{self.path} {_DAMAGED}: {BROKER} has {count} commands")

    def _check_row(self, row: Any) -> None:
        """Raise BackupError for a command that no backup holds."""
        is_row = isinstance(row, list) and len(row) > 1 and all(isinstance(part, bytes) for part in row)
        is_known = is_row and row[0] in COMMANDS and len(row) > COMMANDS[row[0]]
        if is_known and row[0] not in VARIABLE:
            # More arguments of DEL would be more keys, whoever's they are.
            is_known = len(row) == COMMANDS[row[0]] + 1
        if is_known and contents.kind_of(row[1].decode(errors="replace")) is not None:
            return
        raise BackupError(f"{self.path} {_DAMAGED}: it holds a command that no backup has")

    def rows(self) -> Iterator[Row]:
        """Yield the commands that write the broker's keys. Raises BackupError."""
        reader = hiredis.Reader()
        for data in self._chunks(BROKER):
            reader.feed(data)
            while (row := self._next_row(reader)) is not False:
                yield row

    def _next_row(self, reader: hiredis.Reader) -> Any:
        try:
            return reader.gets()
        # What it cannot make of kinds of replies that no backup has.
        except (hiredis.ProtocolError, TypeError, ValueError, MemoryError) as error:
            raise BackupError(f"{self.path} {_DAMAGED}: {BROKER} holds no commands") from error

    def files(self) -> list[str]:
        """Return the names of the files of the home that it has."""
        return [name.removeprefix(HOME) for name in self.manifest["sha256"] if name.startswith(HOME)]

    def extract(self, name: str, target: IO[bytes]) -> None:
        """Write a file of the home. Raises BackupError, OSError."""
        for data in self._chunks(HOME + name):
            target.write(data)

    def _chunks(self, name: str) -> Iterator[bytes]:
        try:
            with self._zip.open(name) as part:
                while data := part.read(CHUNK_BYTES):
                    yield data
        except _UNREADABLE as error:
            raise BackupError(f"{self.path} {_DAMAGED}: {name} cannot be read") from error
        except OSError as error:
            raise BackupError(f"{self.path} cannot be read: {error.strerror or error}") from error


def _read_manifest(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    """Return what a file says of itself. Raises BackupError if this release does not read it."""
    try:
        with archive.open(MANIFEST) as part:
            manifest = json.loads(part.read(MANIFEST_BYTES))
    except (OSError, *_UNREADABLE) as error:
        raise BackupError(f"{path} is no backup of graycat, or is not whole") from error
    if not isinstance(manifest, dict) or type(manifest.get("format")) is not int or manifest["format"] < 1:
        raise BackupError(f"{path} is no backup of graycat")
    if manifest["format"] > FORMAT:
        made_by = manifest.get("graycat", "a newer release")
        raise BackupError(f"{path} was made by a newer graycat ({made_by}): restore it with that release")
    for name, default in _SAID.items():
        value = manifest.setdefault(name, copy(default))
        if type(value) is not type(default) or (isinstance(value, int) and value < 0):
            raise BackupError(f"{path} {_DAMAGED}: its manifest has no {name}")
    counts = manifest["counts"].values()
    if any(type(count) is not int or count < 0 for count in counts):
        raise BackupError(f"{path} {_DAMAGED}: its manifest has no counts")
    return manifest
