from __future__ import annotations

from pathlib import Path

import pytest

from graycat.engines.models import metadata
from graycat.engines.models.metadata import DownloadRecord
from graycat.engines.models.sources import parse_source

SOURCE = parse_source("https://host/m.gguf")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return a checkpoint with its record."""
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    metadata.write(path, DownloadRecord(SOURCE.display_url, SOURCE.key, "ab", 4, "2026-11-23T10:00:00+00:00", "c0ffee"))
    return path


def test_a_record_is_read_as_it_was_written(checkpoint: Path) -> None:
    record = metadata.read(checkpoint)
    assert record == DownloadRecord(SOURCE.display_url, SOURCE.key, "ab", 4, "2026-11-23T10:00:00+00:00", "c0ffee")
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == ["m.gguf", "m.gguf.json"]


def test_a_checkpoint_is_found_by_its_source(checkpoint: Path) -> None:
    assert metadata.find(checkpoint.parent, SOURCE) == checkpoint
    assert metadata.find(checkpoint.parent, parse_source("https://host/n.gguf")) is None
    assert metadata.find(checkpoint.parent / "none", SOURCE) is None


def test_a_checkpoint_of_another_size_than_its_record_s_is_none(checkpoint: Path) -> None:
    checkpoint.write_bytes(b"GG")
    assert metadata.find(checkpoint.parent, SOURCE) is None


def test_a_checkpoint_of_another_hash_than_the_pinned_one_is_none(checkpoint: Path) -> None:
    assert metadata.find(checkpoint.parent, parse_source(f"https://host/m.gguf#sha256={'0' * 64}")) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"source": 1}', "no JSON", '{"key": "a", "more": 1}'])
def test_a_record_that_cannot_be_read_is_none(checkpoint: Path, text: str) -> None:
    metadata.record_path(checkpoint).write_text(text)
    assert metadata.read(checkpoint) is None
    assert metadata.find(checkpoint.parent, SOURCE) is None
