"""Getting one checkpoint: one at a time in a folder, resumed after any break, its name given when it is verified."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from graycat.engines.models import formats, huggingface, metadata, transfer
from graycat.engines.models.errors import DownloadFailed
from graycat.engines.models.partial import STOPPED, PartialFile
from graycat.engines.models.sources import Origin
from graycat.engines.models.transfer import Broken, Reply, StartAnew
from graycat.settings import Settings

logger = logging.getLogger(__name__)

#: Takes a file's name and how much of it is here, in percent.
Report = Callable[[str, float], None]

#: Tries in a row that bring nothing, after which a download has failed; seconds before the second one, doubled for each
#: further one, up to the last.
TRIES = 6
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.5, 30.0
#: Bytes that stay free on the disk: other processes write there too.
RESERVE_BYTES = 256 * 1024 * 1024
#: Bytes between two looks at the free space.
LOOK_EVERY_BYTES = 64 * 1024 * 1024
#: Seconds between two looks at whether another process is done.
LOCK_EVERY_S = 0.2
LOCK = ".lock"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def fetch(origin: Origin, folder: Path, settings: Settings, report: Report, stop: threading.Event) -> Path:
    """Return the checkpoint of an origin in ``folder``, downloaded where it is not there yet. Raises DownloadFailed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = metadata.find(folder, origin)
        if path is None:
            with locked(folder / LOCK, stop):
                # Another process may have brought it meanwhile.
                path = metadata.find(folder, origin) or _Download(origin, folder, settings, report, stop).run()
    except OSError as error:
        reason = "the disk is full" if error.errno in _FULL else error.strerror or "input or output failed"
        raise DownloadFailed(f"it cannot be written: {reason}") from error
    if not formats.permitted(path.name, settings.allow_pickle):
        raise DownloadFailed(formats.PICKLE_NOTE, permanent=True)
    return path


@contextmanager
def locked(path: Path, stop: threading.Event) -> Iterator[None]:
    """Hold a lock that the kernel takes back when its holder dies. Raises DownloadFailed when told to stop."""
    with path.open("ab") as file:
        waits = False
        while not _taken(file):
            if not waits:
                logger.info("another process downloads into this folder: waiting", extra={"folder": path.parent})
                waits = True
            if stop.wait(LOCK_EVERY_S):
                raise DownloadFailed(STOPPED)
        yield


def _taken(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def free_bytes(folder: Path) -> int:
    """Return how many bytes can still be written to a folder's disk."""
    return shutil.disk_usage(folder).free


def check_space(folder: Path, needed: int) -> None:
    """Raise DownloadFailed where a disk has no room for so many bytes more."""
    if (free := free_bytes(folder)) < needed + RESERVE_BYTES:
        gigabytes = [f"{amount / 1e9:.1f}" for amount in (needed + RESERVE_BYTES, free)]
        raise DownloadFailed(f"the disk is too full: {gigabytes[0]} GB are needed, {gigabytes[1]} GB are free")


class _Download:
    """One download under the folder's lock."""

    def __init__(self, origin: Origin, folder: Path, settings: Settings, report: Report, stop: threading.Event) -> None:
        self._origin, self._folder, self._settings = origin, folder, settings
        self._report, self._stop = report, stop
        self._partial = PartialFile(folder, origin.key)
        #: SHA-256 of the bytes that are here; None where they have to be read for that.
        self._digest: Any = None
        self._remote: huggingface.Remote | None = None
        #: Whether bytes of more than one reply are here.
        self._resumed = False
        self._told = -1.0

    def run(self) -> Path:
        """Return the file. Raises DownloadFailed."""
        failures = 0
        while True:
            had = self._partial.have
            try:
                self._attempt()
                return self._finish()
            except Broken as broken:
                if isinstance(broken, StartAnew):
                    self._forget()
                failures = 1 if self._partial.have > had else failures + 1
                if failures >= TRIES:
                    raise DownloadFailed(str(broken)) from broken
                wait_s = max(min(FIRST_BACKOFF_S * 2 ** (failures - 1), LAST_BACKOFF_S), broken.retry_after_s)
                about = {"source": self._origin.public, "reason": broken, "retry_in_s": wait_s}
                logger.warning("download interrupted", extra=about)
            if self._stop.wait(wait_s):
                raise DownloadFailed(STOPPED)

    def _attempt(self) -> None:
        """Get what is missing. Returns when all bytes are here."""
        remote = self._remote = self._remote or huggingface.remote_of(self._origin, self._settings)
        partial, begin, validator = self._partial, 0, ""
        if partial.resumable(remote.version):
            self._resumed = True
            if self._digest is None:
                self._digest = partial.digest(self._stop)
            if partial.whole:
                return
            begin = partial.have
            # The address of a hub's file names its content; the servers behind it may disagree about their ETags.
            validator = "" if remote.version else partial.validator
        size = remote.size if remote.size is not None else partial.size if begin else None
        with transfer.opened(remote.url, remote.headers, begin, validator, size) as reply:
            self._begin(reply, remote)
            self._copy(reply)

    def _begin(self, reply: Reply, remote: huggingface.Remote) -> None:
        """Take note of what comes, if it can be used."""
        partial = self._partial
        told = (reply.size, remote.size, partial.size if reply.begin else None)
        sizes = {size for size in told if size is not None}
        if len(sizes) > 1:
            raise StartAnew("the server tells another size than before")
        size = sizes.pop() if sizes else None
        if not reply.begin:
            if size is None and not reply.framed and not remote.sha256:
                reason = "the server does not tell how long the file is: add #sha256=... to its address"
                raise DownloadFailed(reason, permanent=True)
            names = (self._origin.name,) if self._origin.hub else (reply.names[0], self._origin.name, reply.names[1])
            name = formats.chosen_name(names, self._settings.allow_pickle)
            partial.restart(remote.version, reply.validator, size, name)
            self._digest, self._resumed = partial.digest(self._stop), False
        check_space(self._folder, max((size or 0) - reply.begin, 0))

    def _copy(self, reply: Reply) -> None:
        """Write what comes behind what is here."""
        partial, have, size = self._partial, reply.begin, self._partial.size
        head, looked_at = b"", have
        with partial.append() as file:
            for data in reply.pieces:
                if self._stop.is_set():
                    raise DownloadFailed(STOPPED)
                if not reply.begin and len(head) < formats.HEAD_BYTES:
                    head += data[: formats.HEAD_BYTES]
                    if len(head) >= formats.HEAD_BYTES:
                        formats.check_head(partial.name, head)
                file.write(data)
                self._digest.update(data)
                have += len(data)
                if have - looked_at >= LOOK_EVERY_BYTES:
                    looked_at = have
                    check_space(self._folder, 0)
                self._tell(have)
        if size is None:
            partial.end(have)
        elif have < size:
            raise Broken("the connection ended early")
        elif have > size:
            raise StartAnew("the server sends more than it says")

    def _tell(self, have: int) -> None:
        percent = 100 * have / self._partial.size if self._partial.size else 0.0
        # As often as a look at it changes.
        if abs(percent - self._told) >= 0.1 or percent == 0.0:
            self._told = percent
            self._report(self._partial.name, percent)

    def _finish(self) -> Path:
        """Verify what is here, and give it its name."""
        partial, remote = self._partial, self._remote
        digest = self._digest.hexdigest()
        try:
            if remote is not None and remote.sha256 not in ("", digest):
                raise DownloadFailed("the file has another hash than it should", permanent=True)
            formats.check(partial.path, partial.name)
        except DownloadFailed as error:
            if self._resumed:
                raise StartAnew(str(error)) from error
            self._forget()
            raise
        path = self._free_path()
        record = metadata.Record(
            source=self._origin.public,
            key=self._origin.key,
            sha256=digest,
            size=partial.have,
            downloaded_at=datetime.now(UTC).isoformat(timespec="seconds"),
            revision=remote.revision if remote is not None else "",
        )
        settle(partial.path, path, record)
        partial.discard()
        self._report(path.name, 100.0)
        logger.info("downloaded", extra={"source": record.source, "file": path, "bytes": record.size})
        return path

    def _free_path(self) -> Path:
        """Return the file's path: its own name, or a longer one where that is another file's."""
        path = self._folder / self._partial.name
        record = metadata.read(path)
        if path.exists() and (record is None or record.key != self._origin.key):
            path = path.with_name(f"{path.stem}-{self._origin.key}{path.suffix}")
        return path

    def _forget(self) -> None:
        self._partial.discard()
        self._digest, self._resumed = None, False


def settle(partial: Path, path: Path, record: metadata.Record) -> None:
    """Give a verified file its name, its record beside it; killed at any moment, a name never means half a file."""
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    # A new record must not lie beside an old file.
    path.unlink(missing_ok=True)
    metadata.write(path, record)
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
