"""A download that is not whole yet: its bytes so far, and what is needed to go on with them."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import IO, Any

from graycat.engines.models import metadata
from graycat.engines.models.errors import DownloadFailed

HASH_BYTES = 1024 * 1024
STOPPED = "told to stop; the next try goes on where this one ended"


class PartialFile:
    """``KEY.partial`` in a checkpoint's folder, and ``KEY.partial.json`` beside it."""

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / (key + metadata.PARTIAL)
        self._state_path = self.path.with_name(self.path.name + metadata.SUFFIX)
        state = metadata.read_json(self._state_path)
        #: What the content is called where its origin tells beforehand (a hub's ETag).
        self.version = str(state.get("version", ""))
        #: What ``If-Range`` needs to know whether the file is still the same; '' where the server gave nothing.
        self.validator = str(state.get("validator", ""))
        #: Bytes of the whole file; None where the server does not tell.
        self.size: int | None = state.get("size")
        #: What the file will be called.
        self.name = str(state.get("name", ""))

    @property
    def have(self) -> int:
        """Return how many bytes are here."""
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def whole(self) -> bool:
        """Tell whether all bytes are here."""
        return self.size is not None and self.have == self.size

    def resumable(self, version: str) -> bool:
        """Tell whether more bytes of the ``version`` that is there now can be put behind those that are here."""
        return self.have > 0 and bool(self.name) and self.version == version and bool(version or self.validator)

    def restart(self, version: str, validator: str, size: int | None, name: str) -> None:
        """Forget what is here and begin with another file."""
        # In this order: bytes never lie beside a state that is not theirs.
        self.path.write_bytes(b"")
        self.version, self.validator, self.size, self.name = version, validator, size, name
        self._save()

    def end(self, size: int) -> None:
        """Take note of the size, which nobody told before."""
        self.size = size
        self._save()

    def append(self) -> IO[bytes]:
        """Open the file for more bytes."""
        return self.path.open("ab")

    def discard(self) -> None:
        """Forget everything."""
        self.path.unlink(missing_ok=True)
        self._state_path.unlink(missing_ok=True)
        self.version = self.validator = self.name = ""
        self.size = None

    def digest(self, stop: threading.Event) -> Any:
        """Return the SHA-256 of the bytes so far, ready for more. Raises DownloadFailed when told to stop."""
        digest = hashlib.sha256()
        if self.have:
            with self.path.open("rb") as file:
                while data := file.read(HASH_BYTES):
                    if stop.is_set():
                        raise DownloadFailed(STOPPED)
                    digest.update(data)
        return digest

    def _save(self) -> None:
        state = {"version": self.version, "validator": self.validator, "size": self.size, "name": self.name}
        metadata.write_json(self._state_path, state)
