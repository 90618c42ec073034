from __future__ import annotations

import tracemalloc
import zipfile
from collections.abc import Iterator
from io import BytesIO

from graycat.batches.gallery.zip import PIECE_BYTES, stream_zip


def test_a_zip_holds_its_files() -> None:
    files = [("a.png", 1_800_000_000.0, b"\x89PNG"), ("sub/ä b.png", 0.0, b"x" * 3 * PIECE_BYTES), ("empty", 1.0, b"")]
    pieces = list(stream_zip(files))
    assert max(map(len, pieces)) <= PIECE_BYTES
    with zipfile.ZipFile(BytesIO(b"".join(pieces))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["a.png", "sub/ä b.png", "empty"]
        assert [archive.read(name) for name, _, _ in files] == [data for _, _, data in files]
        assert archive.infolist()[0].date_time == (2027, 1, 15, 8, 0, 0)
        assert archive.infolist()[1].date_time[0] == 1980


def test_a_zip_of_nothing_is_one() -> None:
    with zipfile.ZipFile(BytesIO(b"".join(stream_zip([])))) as archive:
        assert archive.namelist() == []


def test_however_much_is_in_it_one_file_is_in_memory() -> None:
    def files() -> Iterator[tuple[str, float, bytes]]:
        for number in range(60):
            yield f"{number}.png", 0.0, bytes(2 * PIECE_BYTES)

    tracemalloc.start()
    total = sum(map(len, stream_zip(files())))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total > 60 * 2 * PIECE_BYTES
    assert peak < 10 * PIECE_BYTES


def test_a_file_is_passed_on_before_the_next_is_read() -> None:
    read: list[str] = []

    def files() -> Iterator[tuple[str, float, bytes]]:
        for name in ("a", "b"):
            read.append(name)
            yield name, 0.0, name.encode()

    stream = stream_zip(files())
    assert b"a" in next(stream)
    assert read == ["a"]
