from __future__ import annotations

from pathlib import Path

import pytest

from graycat.errors import SettingsError
from graycat.storage.filesystems import open_url


def test_a_folder_is_a_file_system(tmp_path: Path) -> None:
    for url in (str(tmp_path), f"file://{tmp_path}"):
        root = open_url(url, "X")
        assert (root.path, root.atomic_writes) == (str(tmp_path), False)
        root.fs.pipe_file(f"{root.path}/a", b"1")
    assert (tmp_path / "a").read_bytes() == b"1"


def test_what_cannot_be_opened_names_the_setting_and_not_the_address() -> None:
    with pytest.raises(SettingsError) as caught:
        open_url("nosuch://user:secret@host/x", "GRAYCAT_BATCH_DIR")
    assert "GRAYCAT_BATCH_DIR" in str(caught.value)
    assert "secret" not in str(caught.value)
