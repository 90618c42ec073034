"""An unfinished download: the bytes so far, and the state that is needed to resume it."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import IO, Any

from graycat.engines.models import metadata
from graycat.engines.models.errors import DownloadFailed

HASH_BYTES = 1024 * 1024
STOPPED = "the download was stopped; the next attempt resumes it"


class PartialFile:
    """``KEY.partial`` in a checkpoint's folder, and its state ``KEY.partial.json`` beside it."""

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / (key + metadata.PARTIAL_SUFFIX)
        self._state_path = self.path.with_name(self.path.name + metadata.RECORD_SUFFIX)
        state = metadata.read_json(self._state_path)
        #: Identifies the content if the source tells so before the download (the Hub's ETag); else ''.
        self.version = str(state.get("version", ""))
        #: The value for ``If-Range``, by which the server compares versions; '' if the server sent none.
        self.validator = str(state.get("validator", ""))
        #: Bytes of the complete file; None if the server does not tell.
        self.size: int | None = state.get("size")
        #: The final file name.
        self.name = str(state.get("name", ""))

    @property
    def downloaded_bytes(self) -> int:
        """Return how many bytes are on disk."""
        if not self.path.is_file():
            return 0
        return self.path.stat().st_size

    @property
    def complete(self) -> bool:
        """Return whether all bytes are on disk."""
        return self.size is not None and self.downloaded_bytes == self.size

    def can_resume(self, version: str) -> bool:
        """Return whether the download can resume: the server still has the ``version`` that we have a part of.

        Without a version, the validator must be known: then the server compares (``If-Range``).
        """
        comparable = bool(version or self.validator)
        return self.downloaded_bytes > 0 and bool(self.name) and self.version == version and comparable

    def restart(self, version: str, validator: str, size: int | None, name: str) -> None:
        """Drop the bytes so far, and begin with another file."""
        # In this order, the bytes are never combined with the state of another file.
        self.path.write_bytes(b"")
        self.version = version
        self.validator = validator
        self.size = size
        self.name = name
        self._save()

    def set_size(self, size: int) -> None:
        """Save the size of the complete file, which was not known before its end."""
        self.size = size
        self._save()

    def open_for_append(self) -> IO[bytes]:
        """Open the file to write more bytes."""
        return self.path.open("ab")

    def discard(self) -> None:
        """Delete the bytes and the state."""
        self.path.unlink(missing_ok=True)
        self._state_path.unlink(missing_ok=True)
        self.version = self.validator = self.name = ""
        self.size = None

    def hash_content(self, stop: threading.Event) -> Any:
        """Return a SHA-256 object over the bytes so far, ready for more. Raises DownloadFailed if ``stop`` is set."""
        digest = hashlib.sha256()
        if self.downloaded_bytes:
            with self.path.open("rb") as file:
                while data := file.read(HASH_BYTES):
                    if stop.is_set():
                        raise DownloadFailed(STOPPED)
                    digest.update(data)
        return digest

    def _save(self) -> None:
        state = {"version": self.version, "validator": self.validator, "size": self.size, "name": self.name}
        metadata.write_json(self._state_path, state)
