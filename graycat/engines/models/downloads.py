"""Downloads one checkpoint: one at a time per folder, resumed after interruptions, renamed when it is verified."""

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
from graycat.engines.models.sources import CheckpointSource
from graycat.engines.models.transfer import RestartRequired, Transfer, TransferInterrupted
from graycat.settings import Settings

logger = logging.getLogger(__name__)

#: Called with a file's name and its progress in percent.
ProgressCallback = Callable[[str, float], None]

#: Attempts in a row without a new byte, after which a download has failed.
MAX_ATTEMPTS = 6
#: Seconds before the second attempt in a row; doubled for each further one, up to the maximum.
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.5, 30.0
#: Bytes that stay free on the disk: other processes write to it too.
RESERVE_BYTES = 256 * 1024 * 1024
#: The free space is checked again after this many bytes.
SPACE_CHECK_INTERVAL_BYTES = 64 * 1024 * 1024
#: Seconds between two attempts to get the lock of a folder.
LOCK_POLL_INTERVAL_S = 0.2
LOCK_NAME = ".lock"
#: Progress is reported after each step of this many percent.
PROGRESS_STEP_PERCENT = 0.1
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def fetch(
    source: CheckpointSource, folder: Path, settings: Settings, report: ProgressCallback, stop: threading.Event
) -> Path:
    """Return the path of a source's checkpoint in ``folder``; download it if it is missing. Raises DownloadFailed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = metadata.find(folder, source)
        if path is None:
            with hold_lock(folder / LOCK_NAME, stop):
                # Another process may have downloaded it meanwhile.
                path = metadata.find(folder, source)
                if path is None:
                    path = _Download(source, folder, settings, report, stop).run()
    except OSError as error:
        reason = error.strerror or "input/output error"
        if error.errno in _DISK_FULL:
            reason = "the disk is full"
        raise DownloadFailed(f"it cannot be written: {reason}") from error
    if not formats.is_checkpoint_name(path.name, settings.allow_pickle):
        raise DownloadFailed(formats.PICKLE_NOTE, permanent=True)
    return path


@contextmanager
def hold_lock(path: Path, stop: threading.Event) -> Iterator[None]:
    """Hold a file lock, which the kernel releases if this process dies. Raises DownloadFailed if ``stop`` is set."""
    with path.open("ab") as file:
        waiting = False
        while not _try_lock(file):
            if not waiting:
                logger.info("another process downloads into this folder: waiting", extra={"folder": path.parent})
                waiting = True
            if stop.wait(LOCK_POLL_INTERVAL_S):
                raise DownloadFailed(STOPPED)
        yield


def _try_lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def free_bytes(folder: Path) -> int:
    """Return how many bytes are free on a folder's disk."""
    return shutil.disk_usage(folder).free


def check_space(folder: Path, needed_bytes: int) -> None:
    """Raise DownloadFailed if a folder's disk has no room for so many more bytes and the reserve."""
    needed = needed_bytes + RESERVE_BYTES
    free = free_bytes(folder)
    if free < needed:
        sizes = f"{needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free"
        raise DownloadFailed(f"the disk is too full: {sizes}")


class _Download:
    """One download, under the lock of its folder."""

    def __init__(
        self,
        source: CheckpointSource,
        folder: Path,
        settings: Settings,
        report: ProgressCallback,
        stop: threading.Event,
    ) -> None:
        self._source = source
        self._folder = folder
        self._settings = settings
        self._report = report
        self._stop = stop
        self._partial = PartialFile(folder, source.key)
        #: SHA-256 over the bytes on disk; None if it must be computed from them first.
        self._digest: Any = None
        self._remote: huggingface.RemoteFile | None = None
        #: Whether the bytes on disk come from more than one response.
        self._resumed = False
        self._reported_percent = -1.0

    def run(self) -> Path:
        """Download, verify and rename the file; return its path. Raises DownloadFailed."""
        failures = 0
        while True:
            bytes_before = self._partial.downloaded_bytes
            try:
                self._attempt()
                return self._finish()
            except TransferInterrupted as error:
                if isinstance(error, RestartRequired):
                    self._discard()
                if self._partial.downloaded_bytes > bytes_before:
                    failures = 0
                failures += 1
                if failures >= MAX_ATTEMPTS:
                    raise DownloadFailed(str(error)) from error
                backoff_s = min(FIRST_BACKOFF_S * 2 ** (failures - 1), MAX_BACKOFF_S)
                wait_s = max(backoff_s, error.retry_after_s)
                extra = {"source": self._source.display_url, "reason": error, "retry_in_s": wait_s}
                logger.warning("download interrupted", extra=extra)
            if self._stop.wait(wait_s):
                raise DownloadFailed(STOPPED)

    def _attempt(self) -> None:
        """Download the missing bytes with one request. Returns when all bytes are on disk."""
        if self._remote is None:
            self._remote = huggingface.resolve(self._source, self._settings)
        remote = self._remote
        partial = self._partial

        offset = 0
        validator = ""
        size = remote.size
        if partial.can_resume(remote.version):
            self._resumed = True
            if self._digest is None:
                self._digest = partial.hash_content(self._stop)
            if partial.complete:
                return
            offset = partial.downloaded_bytes
            # The URL of a file on the Hub identifies its content, and the servers behind it may send different ETags:
            # so its validator is not sent.
            if not remote.version:
                validator = partial.validator
            if size is None:
                size = partial.size

        with transfer.open_transfer(remote.url, remote.headers, offset, validator, size) as response:
            self._prepare(response, remote)
            self._write(response)

    def _prepare(self, response: Transfer, remote: huggingface.RemoteFile) -> None:
        """Check that a response is usable, and get ready to write it. Raises RestartRequired and DownloadFailed."""
        size = self._agreed_size(response, remote)
        if response.offset == 0:
            if size is None and not response.framed and not remote.sha256:
                reason = "the server does not tell the file's length: add #sha256=... to its address"
                raise DownloadFailed(reason, permanent=True)
            # The name of a file on the Hub is fixed. Any other server may send a better name than the URL contains.
            candidates: tuple[str, ...] = (self._source.name,)
            if self._source.hub is None:
                name_in_header, name_in_final_url = response.names
                candidates = (name_in_header, self._source.name, name_in_final_url)
            name = formats.choose_name(candidates, self._settings.allow_pickle)
            self._partial.restart(remote.version, response.validator, size, name)
            self._digest = self._partial.hash_content(self._stop)
            self._resumed = False
        if size is None:
            check_space(self._folder, 0)
        else:
            check_space(self._folder, max(size - response.offset, 0))

    def _agreed_size(self, response: Transfer, remote: huggingface.RemoteFile) -> int | None:
        """Return the size of the complete file; None if it is unknown. Raises RestartRequired for a contradiction."""
        sizes = {response.size, remote.size}
        if response.offset:
            sizes.add(self._partial.size)
        sizes.discard(None)
        if len(sizes) > 1:
            raise RestartRequired("the server announces another size than before")
        if not sizes:
            return None
        return sizes.pop()

    def _write(self, response: Transfer) -> None:
        """Append the response to the bytes on disk. Raises TransferInterrupted if it is too short or too long."""
        partial = self._partial
        size = partial.size
        written = response.offset
        space_checked_at = written
        with partial.open_for_append() as file:
            for chunk in self._check_head(response):
                if self._stop.is_set():
                    raise DownloadFailed(STOPPED)
                file.write(chunk)
                self._digest.update(chunk)
                written += len(chunk)
                if written - space_checked_at >= SPACE_CHECK_INTERVAL_BYTES:
                    space_checked_at = written
                    check_space(self._folder, 0)
                self._report_progress(written)
        if size is None:
            partial.set_size(written)
        elif written < size:
            raise TransferInterrupted("the connection ended early")
        elif written > size:
            raise RestartRequired("the server sent more bytes than it announced")

    def _check_head(self, response: Transfer) -> Iterator[bytes]:
        """Yield the chunks of a response; raise DownloadFailed as soon as a new file's first bytes are wrong."""
        head = b""
        for chunk in response.chunks:
            if response.offset == 0 and len(head) < formats.HEAD_BYTES:
                head += chunk[: formats.HEAD_BYTES]
                if len(head) >= formats.HEAD_BYTES:
                    formats.check_head(self._partial.name, head)
            yield chunk

    def _report_progress(self, written: int) -> None:
        percent = 0.0
        if self._partial.size:
            percent = 100 * written / self._partial.size
        if abs(percent - self._reported_percent) >= PROGRESS_STEP_PERCENT or percent == 0.0:
            self._reported_percent = percent
            self._report(self._partial.name, percent)

    def _finish(self) -> Path:
        """Verify the downloaded file and give it its final name. Raises RestartRequired and DownloadFailed."""
        partial = self._partial
        remote = self._remote
        digest = self._digest.hexdigest()
        try:
            if remote is not None and remote.sha256 not in ("", digest):
                raise DownloadFailed("the file has another hash than it should", permanent=True)
            formats.check_file(partial.path, partial.name)
        except DownloadFailed as error:
            if self._resumed:
                # The parts may come from different versions of the file.
                raise RestartRequired(str(error)) from error
            self._discard()
            raise

        path = self._choose_path()
        revision = ""
        if remote is not None:
            revision = remote.revision
        record = metadata.DownloadRecord(
            source=self._source.display_url,
            key=self._source.key,
            sha256=digest,
            size=partial.downloaded_bytes,
            downloaded_at=datetime.now(UTC).isoformat(timespec="seconds"),
            revision=revision,
        )
        publish(partial.path, path, record)
        partial.discard()
        self._report(path.name, 100.0)
        logger.info("downloaded", extra={"source": record.source, "file": path, "bytes": record.size})
        return path

    def _choose_path(self) -> Path:
        """Return the file's path: its own name, or a longer one if another source's file has that name."""
        path = self._folder / self._partial.name
        record = metadata.read(path)
        if path.exists() and (record is None or record.key != self._source.key):
            path = path.with_name(f"{path.stem}-{self._source.key}{path.suffix}")
        return path

    def _discard(self) -> None:
        self._partial.discard()
        self._digest = None
        self._resumed = False


def publish(partial: Path, path: Path, record: metadata.DownloadRecord) -> None:
    """Rename a verified file to its final name and write its record.

    Even if the process is killed at any moment, the final name never refers to an incomplete file.
    """
    _sync(partial)
    # A new record must not lie beside an old file.
    path.unlink(missing_ok=True)
    metadata.write(path, record)
    partial.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Have the kernel write a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
