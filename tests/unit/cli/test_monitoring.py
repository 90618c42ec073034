from __future__ import annotations

from pathlib import Path

import pytest

from graycat.cli import monitoring
from graycat.settings import Settings

EVERYTHING = {
    "web": "graycat web",
    "llm-gpu1": "graycat worker llm --gpu 1",
    "control": "graycat worker control",
    "flower": "graycat flower",
    "exporter": "graycat exporter",
}


@pytest.mark.parametrize(
    ("changes", "left_out"),
    [({}, {"exporter"}), ({"exporter": True}, set()), ({"flower": False}, {"flower", "exporter"})],
)
def test_what_is_switched_off_does_not_run(changes: dict[str, bool], left_out: set[str]) -> None:
    kept = monitoring.kept(EVERYTHING, Settings(**changes))  # type: ignore[arg-type]
    assert set(EVERYTHING) - set(kept) == left_out


def test_each_listens_on_a_port_that_has_a_name() -> None:
    settings = Settings(flower_port=5556, flower_host="10.0.0.7", exporter_port=9809, metrics_port=9820)
    assert monitoring.ports(settings, EVERYTHING) == [
        ("flower_port", 5556, "10.0.0.7"),
        ("exporter_port", 9809, "127.0.0.1"),
        ("metrics_port", 9841, "127.0.0.1"),
        ("metrics_port", 9820, "127.0.0.1"),
    ]


def test_without_a_port_workers_listen_nowhere() -> None:
    assert monitoring.ports(Settings(), {"llm": "graycat worker llm", "web": "graycat web"}) == []


def test_a_password_is_made_once_and_told(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    made = monitoring.flower_password(settings)
    assert len(made) >= 32
    assert monitoring.flower_password(settings) == made
    assert (tmp_path / "flower-password").stat().st_mode & 0o077 == 0
    greeting = monitoring.greeting(settings)
    assert made in greeting
    assert "http://127.0.0.1:5555" in greeting


def test_a_password_of_the_operator_s_is_not_told(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, flower_password="p" * 16)
    assert monitoring.flower_password(settings) == "p" * 16
    assert "p" * 16 not in monitoring.greeting(settings)
    assert list(tmp_path.iterdir()) == []


def test_without_flower_nothing_is_told_of_it(tmp_path: Path) -> None:
    assert monitoring.greeting(Settings(home=tmp_path, flower=False)) == ""
