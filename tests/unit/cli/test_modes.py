from __future__ import annotations

from typing import Any

import pytest

from graycat.cli import modes, up
from graycat.engines import gpus
from graycat.errors import SettingsError
from graycat.settings import Settings

KEY = "a-key-of-the-engines"
REMOTE: dict[str, Any] = {"remote": True, "redis_url": "rediss://box7:pw@broker.lan:6380/0"}
ALONE: dict[str, Any] = {"remote": False, "engine_api_key": KEY}
SD_COMMAND = "webui --port {port} --api-auth graycat:{api_key}"


def started(**changes: Any) -> set[str]:
    """Return the commands of the Procfile as they run with some settings."""
    return set(up.list_processes(Settings(**changes)).values())


@pytest.mark.parametrize(
    ("changes", "commands"),
    [
        (REMOTE, {"graycat worker llm", "graycat worker quick"}),
        (REMOTE | {"sd_startup_command": "x"}, {"graycat worker llm", "graycat worker quick", "graycat worker sd"}),
        (REMOTE | {"a1111_url": "http://b:1", "run_llm": False}, {"graycat worker sd"}),
        (ALONE, {"graycat engine llm"}),
        (ALONE | {"sd_startup_command": SD_COMMAND}, {"graycat engine llm", "graycat engine sd"}),
        (ALONE | {"sd_startup_command": SD_COMMAND, "llama_server_url": "http://b:1"}, {"graycat engine sd"}),
    ],
)
def test_a_box_runs_its_own_processes(changes: dict[str, Any], commands: set[str]) -> None:
    assert started(**changes) == commands


def test_unset_everything_runs() -> None:
    assert {"graycat web", "graycat broker", "graycat worker control", "graycat worker sd"} <= started()


@pytest.mark.parametrize("changes", [REMOTE | {"run_llm": False}, ALONE | {"llama_server_url": "http://b:1"}])
def test_a_box_with_nothing_to_run_is_an_error(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="has nothing to run"):
        started(**changes)


def test_engines_alone_are_one_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "list_gpus", lambda: (0, 1))
    assert started(**ALONE, llm_gpus="auto") == {"graycat engine llm --gpu 0", "graycat engine llm --gpu 1"}


def test_the_greeting_names_the_broker_without_its_password() -> None:
    text = modes.greeting({}, Settings(**REMOTE, box="box7"))
    assert "broker.lan:6380" in text
    assert "*@box7" in text
    assert "pw" not in text


def test_the_greeting_names_the_ports_without_the_key() -> None:
    text = modes.greeting({"llm": "graycat engine llm"}, Settings(**ALONE, llm_port=1400))
    assert "port 1400" in text
    assert KEY not in text
