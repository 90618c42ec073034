from __future__ import annotations

from pathlib import Path

import pytest

from graycat.cli import monitoring
from graycat.settings import Settings

EVERYTHING = {
    "web": "graycat web",
    "llm-gpu1": "graycat worker llm --gpu 1",
    "control": "graycat worker control",
    "beat": "graycat beat",
    "flower": "graycat flower",
    "exporter": "graycat exporter",
}


@pytest.mark.parametrize(
    ("changes", "left_out"),
    [({}, {"exporter"}), ({"exporter": True}, set()), ({"flower": False}, {"flower", "exporter"})],
)
def test_disabled_processes_do_not_run(changes: dict[str, bool], left_out: set[str]) -> None:
    kept = monitoring.drop_disabled(EVERYTHING, Settings(**changes))  # type: ignore[arg-type]
    assert set(EVERYTHING) - set(kept) == left_out


def test_each_port_has_its_setting() -> None:
    settings = Settings(flower_port=5556, flower_host="10.0.0.7", exporter_port=9809, metrics_port=9820)
    assert monitoring.list_ports(settings, EVERYTHING) == [
        ("flower_port", 5556, "10.0.0.7"),
        ("exporter_port", 9809, "127.0.0.1"),
        ("metrics_port", 9841, "127.0.0.1"),
        ("metrics_port", 9820, "127.0.0.1"),
        ("metrics_port", 9900, "127.0.0.1"),
    ]


def test_without_metrics_ports_workers_do_not_listen() -> None:
    assert monitoring.list_ports(Settings(), {"llm": "graycat worker llm", "web": "graycat web"}) == []


@pytest.mark.parametrize("terminal", [True, False])
def test_a_password_is_generated_once_and_printed_to_a_terminal(tmp_path: Path, monkeypatch, terminal: bool) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    settings = Settings(home=tmp_path)
    made = monitoring.flower_password(settings)
    assert len(made) >= 32
    assert monitoring.flower_password(settings) == made
    assert (tmp_path / "flower-password").stat().st_mode & 0o077 == 0
    greeting = monitoring.greeting(settings)
    assert (made in greeting) == terminal
    assert (f"in {tmp_path / 'flower-password'}" in greeting) != terminal
    assert "http://127.0.0.1:5555" in greeting


def test_a_configured_password_is_not_printed(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, flower_password="p" * 16)
    assert monitoring.flower_password(settings) == "p" * 16
    assert "p" * 16 not in monitoring.greeting(settings)
    assert list(tmp_path.iterdir()) == []


def test_without_flower_there_is_no_greeting(tmp_path: Path) -> None:
    assert monitoring.greeting(Settings(home=tmp_path, flower=False)) == ""
