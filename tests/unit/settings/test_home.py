from __future__ import annotations

import os
import stat
from pathlib import Path

from graycat.settings import home
from graycat.settings.home import keep_private, tighten_home


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_what_is_created_from_now_on_is_private(tmp_path: Path) -> None:
    keep_private()
    (tmp_path / "new" / "er").mkdir(parents=True)
    (tmp_path / "file").write_text("prompt")
    assert [mode(tmp_path / name) for name in ("new", "new/er", "file")] == [0o700, 0o700, 0o600]


def test_a_stricter_umask_stays(tmp_path: Path) -> None:
    os.umask(0o277)
    keep_private()
    (tmp_path / "file").touch()
    assert mode(tmp_path / "file") == 0o400


def test_a_new_home_is_private(tmp_path: Path) -> None:
    tighten_home(tmp_path / "a" / "home")
    assert mode(tmp_path / "a" / "home") == 0o700


def test_what_an_older_release_left_open_is_closed(tmp_path: Path) -> None:
    for name in (*home.FOLDERS, "models"):
        (tmp_path / name).mkdir()
    for name in (*home.SECRETS, "api-token.17.4711", "lock"):
        (tmp_path / name).touch()
    tmp_path.chmod(0o755)
    tighten_home(tmp_path)
    assert mode(tmp_path) == 0o700
    assert {mode(tmp_path / name) for name in home.FOLDERS} == {0o700}
    assert {mode(tmp_path / name) for name in home.SECRETS} == {0o600}


def test_a_folder_of_the_operator_s_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "diary.txt").touch()
    (tmp_path / "log").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "batches").symlink_to(elsewhere)
    tmp_path.chmod(0o755)
    tighten_home(tmp_path)
    kept = [mode(tmp_path), mode(tmp_path / "diary.txt"), mode(elsewhere), mode(tmp_path / "log")]
    assert kept == [0o755, 0o644, 0o755, 0o700]
