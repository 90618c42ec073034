"""A folder that checkpoints come into, and the server that they come from."""

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


#: What a process runs that pulls one address.
PULL = [sys.executable, "-c", "from graycat.cli import main; main()", "models", "pull"]


class Place:
    """A folder, and a server whose files come into it."""

    def __init__(self, home: Path, seen: Seen) -> None:
        self.settings, self.seen = Settings(home=home), seen
        self.folder = home / "models" / "text"
        self.stop = threading.Event()
        self.told: list[tuple[str, float]] = []

    def fetch(self, path: str = "/m.gguf", **changes: Any) -> Path:
        """Download a file of the server."""
        settings = changed(self.settings, **changes)
        return downloads.fetch(parse_source(self.seen.url + path), self.folder, settings, self.report, self.stop)

    def report(self, name: str, percent: float) -> None:
        """Take note of progress."""
        self.told.append((name, percent))

    def files(self) -> list[str]:
        """Return the names of all files but the lock."""
        return sorted(path.name for path in self.folder.iterdir() if path.name != downloads.LOCK_NAME)

    def ranges(self) -> list[str]:
        """Return the ranges that were asked for, '' for none."""
        return [headers.get("range", "") for headers in self.seen.headers]

    def half(self) -> int:
        """Return how many bytes of unfinished downloads are here."""
        return sum(path.stat().st_size for path in self.folder.glob("*.partial"))
