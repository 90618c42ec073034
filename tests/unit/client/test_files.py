from __future__ import annotations

import stat
from pathlib import Path

import pytest

from graycat.client import InvalidArgument, UnexpectedReply
from graycat.client.files import image_file_name, parse_manifest_path, write_atomically


def test_a_pattern_makes_an_image_s_name() -> None:
    assert image_file_name("{id}-{n:03}.{ext}", "a1", 7, "png") == "a1-007.png"


@pytest.mark.parametrize("pattern", ["../{n}.{ext}", "{n}/{id}", "{name}", "{}", "{n.x}", "{n"])
def test_a_pattern_that_makes_no_file_name_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidArgument):
        image_file_name(pattern, "a1", 0, "png")


@pytest.mark.parametrize("file", ["../x", "/etc/passwd", "", ".ssh/x", "a\\b", "a/../../b"])
def test_a_manifest_s_file_stays_in_its_folder(file: str) -> None:
    with pytest.raises(UnexpectedReply):
        parse_manifest_path(file)


def test_a_file_is_written_with_its_folders_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "image.png"
    assert write_atomically(path, b"one") == path
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_and_its_new_folders_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "new" / "er" / "manifest.jsonl", b"prompts")
    modes = [stat.S_IMODE(place.stat().st_mode) for place in (path, path.parent, path.parent.parent)]
    assert modes == [0o600, 0o700, 0o700]


def test_a_folder_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    write_atomically(tmp_path / "image.png", b"one")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
