"""Streams a zip archive: at most one of its files is in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from io import RawIOBase
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

#: Bytes that are yielded at once.
PIECE_BYTES = 1 << 20
#: The earliest time that the zip format can hold.
_EARLIEST = (1980, 1, 1, 0, 0, 0)


class _Buffer(RawIOBase):
    """Collects what the archive writes until it is drained. It cannot seek."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def drain(self) -> Iterator[bytes]:
        """Yield what was written since the last call."""
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            for start in range(0, len(piece), PIECE_BYTES):
                yield piece[start : start + PIECE_BYTES]


def stream_zip(files: Iterable[tuple[str, float, bytes]]) -> Iterator[bytes]:
    """Yield the bytes of a zip of files: name, time (seconds since 1970), content.

    The files are stored without compression, because images are compressed already.
    """
    buffer = _Buffer()
    with ZipFile(buffer, "w", ZIP_STORED) as archive:
        for name, time, data in files:
            modified = max(datetime.fromtimestamp(time, UTC).timetuple()[:6], _EARLIEST)
            info = ZipInfo(name, modified)
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
            yield from buffer.drain()
    yield from buffer.drain()
