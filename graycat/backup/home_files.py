"""What a backup holds of GRAYCAT_HOME: the keys that minted tokens and webhooks need, and the files of batches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path, PurePosixPath

from graycat.backup.archive import BackupFile
from graycat.backup.errors import BackupError

#: Generated secrets without which callers would need new ones: a token is sealed with the first.
KEYS = ("token-key", "webhook-key", "api-token")
BATCHES = "batches"
#: What a key of the home that is replaced is renamed to, and what a file is called until it is whole.
BEFORE, PARTIAL = ".before-restore", ".restoring"


def list_keys(home: Path) -> dict[str, Path]:
    """Return the files of the generated secrets that a home has, by their names in a backup."""
    return {name: home / name for name in KEYS if (home / name).is_file()}


def list_batches(home: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of batches, with their names in a backup. Links and half-written files are left out.

    Raises BackupError.
    """
    root = home / BATCHES
    for folder, _, names in os.walk(root):
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink() and not name.startswith("."):
                found = path.relative_to(home).as_posix()
                if not _is_unicode(found):
                    raise BackupError(f"{ascii(found)} in {home} has a name that is not UTF-8: rename it")
                yield found, path


def _is_unicode(name: str) -> bool:
    """Return whether a name of the file system is text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def fingerprint(secret: str) -> str:
    """Return what tells two keys apart, and nothing more of them."""
    return sha256(f"graycat backup\0{secret}".encode()).hexdigest()[:16]


class HomeFiles:
    """Puts the files of a backup into a home. ``replace``: also over others of the same names."""

    def __init__(self, home: Path, backup: BackupFile, *, replace: bool) -> None:
        self._home = home
        self._backup = backup
        self._replace = replace
        self._keys: list[str] = []
        self._batches: list[str] = []
        for name in backup.files():
            if name in KEYS:
                self._keys.append(name)
            elif _is_batch_file(name):
                self._batches.append(name)
            else:
                raise BackupError(f"{backup.path} is damaged: it has a file of no place, {name!r}")

    def prepare(self) -> None:
        """Write all files under other names, those of batches in their places. Raises BackupError."""
        try:
            for name in self._keys:
                path = self._home / name
                self._write(name, path.with_name(name + PARTIAL))
                self._check_key(name)
            for name in self._batches:
                path = self._home / name
                # Images are never changed once they are there.
                if self._replace or not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    partial = path.with_name(f".{path.name}{PARTIAL}")
                    self._write(name, partial)
                    partial.replace(path)
        except OSError as error:
            self.discard()
            raise BackupError(f"{error.filename or self._home} cannot be written: {error.strerror}") from error
        except BackupError:
            self.discard()
            raise

    def _check_key(self, name: str) -> None:
        """Raise BackupError if the home has another key, which must not be replaced."""
        path = self._home / name
        fresh = _read_key(path.with_name(name + PARTIAL))
        if not _is_text(fresh):
            raise BackupError(f"{self._backup.path} is damaged: {name} is no key")
        if path.exists() and _read_key(path) != fresh and not self._replace:
            raise BackupError(
                f"{path} is another key than that of the backup: --replace takes that one, and keeps this as "
                f"{path.name}{BEFORE}"
            )

    def _write(self, name: str, path: Path) -> None:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            try:
                self._backup.extract(name, file)
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                path.unlink(missing_ok=True)
                raise

    def finish(self) -> None:
        """Give the keys their names. Raises BackupError."""
        for name in self._keys:
            path = self._home / name
            fresh = path.with_name(name + PARTIAL)
            try:
                if path.exists() and _read_key(path) != _read_key(fresh):
                    path.replace(path.with_name(name + BEFORE))
                fresh.replace(path)
            except OSError as error:
                problem = f"the broker is restored, but {path} cannot be written ({error.strerror})"
                raise BackupError(f"{problem}: run the same command again with --replace") from error

    def discard(self) -> None:
        """Delete the keys that ``prepare`` has written."""
        for name in self._keys:
            (self._home / (name + PARTIAL)).unlink(missing_ok=True)


def _read_key(path: Path) -> bytes:
    """Return the key in a file. Raises OSError."""
    return path.read_bytes().strip()


def _is_text(key: bytes) -> bool:
    """Return whether a key is text, and not empty."""
    try:
        return bool(key.decode())
    except UnicodeDecodeError:
        return False


def _is_batch_file(name: str) -> bool:
    """Return whether a name leads to a file of a batch, and not out of the home."""
    path = PurePosixPath(name)
    return len(path.parts) > 1 and path.parts[0] == BATCHES and ".." not in path.parts and "\0" not in name
