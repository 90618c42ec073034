from __future__ import annotations

import stat
from pathlib import Path

from graycat.settings.secretfiles import load_or_create
from tests.support.helpers import outcome_of


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "secret"
    assert [load_or_create(path, lambda text=text: text) for text in ("first", "second")] == ["first", "first"]  # type: ignore[misc]


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    load_or_create(tmp_path / "secret", lambda: "hush")
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_of_many_that_make_it_at_once_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    waits = [outcome_of(lambda name=name: load_or_create(path, lambda: f"by {name}")) for name in range(8)]  # type: ignore[misc]
    assert {wait() for wait in waits} == {path.read_text().strip()}
    assert list(tmp_path.iterdir()) == [path]
