"""A folder for downloaded checkpoints, and the server that they are downloaded from."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from graycat.engines.models import downloads
from graycat.engines.models.sources import parse_source
from graycat.settings import Settings
from tests.support.files import gguf
from tests.support.helpers import changed
from tests.support.servers import Seen

CONTENT = gguf()

#: The command of a process that downloads one URL, which is appended.
PULL = [sys.executable, "-c", "from graycat.cli import main; main()", "models", "pull"]


class DownloadSetup:
    """A folder, and a server whose files are downloaded into it."""

    def __init__(self, home: Path, seen: Seen) -> None:
        self.settings = Settings(home=home)
        self.seen = seen
        self.folder = home / "models" / "text"
        self.stop = threading.Event()
        #: The reported progress: file name and percent.
        self.progress: list[tuple[str, float]] = []

    def fetch(self, path: str = "/m.gguf", **changes: Any) -> Path:
        """Download a file of the server."""
        settings = changed(self.settings, **changes)
        source = parse_source(self.seen.url + path)
        return downloads.fetch(source, self.folder, settings, self.record_progress, self.stop)

    def record_progress(self, name: str, percent: float) -> None:
        """Record the progress of a download."""
        self.progress.append((name, percent))

    def files(self) -> list[str]:
        """Return the names of all files except the lock."""
        return sorted(path.name for path in self.folder.iterdir() if path.name != downloads.LOCK_NAME)

    def ranges(self) -> list[str]:
        """Return the ranges that were requested, '' for a request without one."""
        return [headers.get("range", "") for headers in self.seen.headers]

    def partial_bytes(self) -> int:
        """Return the size of the unfinished downloads."""
        return sum(path.stat().st_size for path in self.folder.glob("*.partial"))
