"""All keys of a broker as they were at one moment, read while it is at work.

The broker tells of every key that changes (client-side caching, in broadcast mode). So all keys are read while others
write; then again those that have changed, until few are left; and these in a pause of all writes, which the broker
itself ends. What was read before and has not changed since is as it was in the pause. Everybody else notices a command
that takes a fraction of a second (docs/decisions/0039-backups.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager

from graycat.backup import contents
from graycat.backup.errors import BackupError
from graycat.backup.link import Link
from graycat.backup.values import Row, read_values
from graycat.settings import Settings

#: The longest pause of writes, far below what callers of a web process wait for the broker (1.2 s); and how many.
PAUSE_MS, MAX_PAUSES = 700, 20
#: With fewer keys left, writes are paused; before that, keys that have changed are read again so many times.
FEW_KEYS, MAX_ROUNDS = 300, 10
#: The channel on which the broker tells of keys that change.
INVALIDATIONS = "__redis__:invalidate"

#: Called with the number of keys and of bytes that have been read.
Progress = Callable[[int, int], None]
Write = Callable[[Row], None]


class Snapshot:
    """Reads a broker's keys. ``write`` is given the rows, of which the last ones of each key count."""

    def __init__(self, settings: Settings, write: Write, progress: Progress = lambda _keys, _bytes: None) -> None:
        self._settings = settings
        self._write = write
        self._progress = progress
        #: The keys that have been written, with their entries and the bytes that they take.
        self._sizes: dict[bytes, tuple[int, int]] = {}
        self._bytes = 0
        #: When it was taken (ms since 1970, by the broker's clock); and its name and version.
        self.taken_ms = 0
        self.broker: dict[str, str] = {}

    def take(self) -> None:
        """Read all. Raises BackupError."""
        with closing(Link(self._settings)) as link, closing(Link(self._settings)) as changes:
            self.broker = link.check()
            changed = self._watch(link, changes)
            for names in link.scan("*"):
                self._read(link, names)
            waiting = changed()
            for _ in range(MAX_ROUNDS):
                if len(waiting) <= FEW_KEYS:
                    break
                self._read(link, waiting)
                waiting = changed()
            self._finish(link, changed, waiting)

    @property
    def memory_bytes(self) -> int:
        """Return how much of the broker's memory the keys take."""
        return sum(size for _, size in self._sizes.values())

    @property
    def keys(self) -> int:
        """Return how many keys there are."""
        return len(self._sizes)

    def counts(self) -> dict[str, int]:
        """Return how many of each kind there are (``contents.count``)."""
        return contents.count((name.decode(errors="replace"), size) for name, (size, _) in self._sizes.items())

    @staticmethod
    def _watch(link: Link, changes: Link) -> Callable[[], set[bytes]]:
        """Have the broker tell of each key that changes; return what returns those that have changed since."""
        changes_id = changes.ask("CLIENT", "ID")
        changes.subscribe(INVALIDATIONS)
        link.ask("CLIENT", "TRACKING", "ON", "REDIRECT", changes_id, "BCAST")

        def changed() -> set[bytes]:
            found: set[bytes] = set()
            for names in changes.pushed():
                if names is None:
                    raise BackupError("the broker was emptied while it was read")
                found.update(names)
            return {name for name in found if contents.kind_of(name.decode(errors="replace"))}

        return changed

    def _finish(self, link: Link, changed: Callable[[], set[bytes]], waiting: set[bytes]) -> None:
        """Read what is left while nobody writes."""
        for _ in range(MAX_PAUSES):
            with _paused(link) as in_time:
                # The pause begins behind all that has changed before: this is all of it.
                waiting |= changed()
                rows = self._collect(link, waiting)
                seconds, micros = link.ask("TIME")
                self._check_watch(link)
                is_done = in_time()
            for row in rows:
                self._write(row)
            if is_done:
                self.taken_ms = int(seconds) * 1000 + int(micros) // 1000
                return
            # Those that were read are read; what has changed since comes in the next pause.
            waiting = changed()
        raise BackupError(
            f"the broker is too busy: what changes cannot be read within {PAUSE_MS} ms; try again when it is calmer"
        )

    @staticmethod
    def _check_watch(link: Link) -> None:
        """Raise BackupError if the broker does not tell of changes any more."""
        state = link.ask("CLIENT", "TRACKINGINFO")
        flags = dict(zip(state[::2], state[1::2], strict=True)).get(b"flags", [])
        if b"bcast" not in flags or b"broken_redirect" in flags:
            raise BackupError("the broker has stopped to tell what changes")

    def _read(self, link: Link, names: Iterable[bytes]) -> None:
        for row in self._rows(link, names):
            self._write(row)

    def _collect(self, link: Link, names: Iterable[bytes]) -> list[Row]:
        return list(self._rows(link, names))

    def _rows(self, link: Link, names: Iterable[bytes]) -> Iterator[Row]:
        """Yield the rows of keys; a key that was written before is deleted first."""
        wanted = [name for name in names if contents.kind_of(name.decode(errors="replace"))]
        for value in read_values(link, wanted):
            if self._sizes.pop(value.name, None) is not None:
                yield b"DEL", value.name
            if value.rows:
                self._sizes[value.name] = value.size, value.memory_bytes
                self._bytes += value.memory_bytes
                yield from value.rows
            self._progress(len(self._sizes), self._bytes)


@contextmanager
def _paused(link: Link) -> Iterator[Callable[[], bool]]:
    """Pause all writes; yield what tells whether they pause still. The broker itself ends it if this process dies."""
    # By this clock the pause begins at the earliest now, so it is over at the earliest then.
    over_at = time.monotonic() + PAUSE_MS / 1000
    link.ask("CLIENT", "PAUSE", PAUSE_MS, "WRITE")
    try:
        yield lambda: time.monotonic() < over_at
    finally:
        link.ask("CLIENT", "UNPAUSE")
