from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from graycat.engines.models.errors import DownloadFailed
from graycat.engines.models.partial import PartialFile


@pytest.fixture
def partial(tmp_path: Path) -> PartialFile:
    """Return a download of which three bytes of five are here."""
    partial = PartialFile(tmp_path, "key")
    partial.restart("", '"v1"', 5, "m.gguf")
    with partial.open_for_append() as file:
        file.write(b"GGU")
    return partial


def test_a_new_partial_file_is_empty(tmp_path: Path) -> None:
    partial = PartialFile(tmp_path, "key")
    assert (partial.downloaded_bytes, partial.complete, partial.can_resume("")) == (0, False, False)


def test_another_process_can_resume(partial: PartialFile) -> None:
    again = PartialFile(partial.path.parent, "key")
    assert (again.downloaded_bytes, again.size, again.validator, again.name) == (3, 5, '"v1"', "m.gguf")
    assert again.can_resume("")
    assert not again.complete
    with again.open_for_append() as file:
        file.write(b"F!")
    assert again.complete


def test_another_version_is_not_resumed(partial: PartialFile) -> None:
    assert not partial.can_resume("another")


@pytest.mark.parametrize("text", ["", "{}", "no JSON"])
def test_bytes_without_a_state_are_not_resumed(partial: PartialFile, text: str) -> None:
    (partial.path.parent / "key.partial.json").write_text(text)
    assert not PartialFile(partial.path.parent, "key").can_resume("")


def test_a_restart_drops_the_bytes_before_it_saves_another_state(partial: PartialFile) -> None:
    partial.restart("v2", "", None, "n.gguf")
    again = PartialFile(partial.path.parent, "key")
    assert (again.downloaded_bytes, again.version, again.size, again.name) == (0, "v2", None, "n.gguf")


def test_the_size_may_become_known_at_the_end(partial: PartialFile) -> None:
    partial.set_size(3)
    assert PartialFile(partial.path.parent, "key").complete


def test_what_is_discarded_leaves_nothing(partial: PartialFile) -> None:
    partial.discard()
    assert list(partial.path.parent.iterdir()) == []
    partial.discard()
    assert partial.downloaded_bytes == 0


def test_the_hash_can_be_continued(partial: PartialFile) -> None:
    digest = partial.hash_content(threading.Event())
    digest.update(b"F")
    assert digest.hexdigest() == hashlib.sha256(b"GGUF").hexdigest()


def test_hashing_can_be_stopped(partial: PartialFile) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(DownloadFailed, match="was stopped"):
        partial.hash_content(stop)
