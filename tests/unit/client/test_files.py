from __future__ import annotations

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
