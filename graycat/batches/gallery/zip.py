"""A zip as a stream: however much is in it, no more than one file of it is in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from io import RawIOBase
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

#: Bytes that are passed on at once.
PIECE = 1 << 20


class _Pipe(RawIOBase):
    """What a zip is written to; it is taken away as it comes, so nothing in it can be gone back to."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def taken(self) -> Iterator[bytes]:
        """Yield what was written since the last time."""
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            for start in range(0, len(piece), PIECE):
                yield piece[start : start + PIECE]


def zipped(files: Iterable[tuple[str, float, bytes]]) -> Iterator[bytes]:
    """Yield a zip of files: name, time (seconds since 1970), bytes. Images are packed already: they are only stored."""
    pipe = _Pipe()
    with ZipFile(pipe, "w", ZIP_STORED) as archive:
        for name, time, data in files:
            at = datetime.fromtimestamp(time, UTC)
            # The format begins with 1980.
            info = ZipInfo(name, at.timetuple()[:6] if at.year >= 1980 else (1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
            yield from pipe.taken()
    yield from pipe.taken()
