from __future__ import annotations

import shlex
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from graycat.cli.statussteps import MAX_STEPS, Step, find_disk_steps, find_steps, format_steps
from graycat.web.api.health import unserved_reason
from tests.support.escapes import EVIL, is_clean
from tests.unit.cli.test_statusview import HEALTHY, QUEUE, WORKER

CRASHED = {"engine_state": "stopped", "consuming": False, "failures": 4, "crash_loop": True, "last_failure": "it died"}
LOADING = WORKER | {"engine_state": "loading", "consuming": False}
WATCH = "graycat status --watch"
PROCESS = {"name": "sd", "machine": "box", "state": "crash loop", "last_end": "killed by SIGKILL"}


def batches(**changes: Any) -> dict[str, Any]:
    """Return a status with other numbers of batches."""
    states = HEALTHY["batches"]["states"] | {"paused": changes.pop("paused", 0)}
    return {"batches": HEALTHY["batches"] | {"states": states, **changes}}


def only(status: dict[str, Any]) -> Step:
    """Return the one thing to do about a status that differs from a healthy one."""
    (step,) = find_steps(HEALTHY | status)
    return step


def test_a_healthy_server_needs_nothing() -> None:
    assert find_steps(HEALTHY) == []
    assert format_steps([]) == "nothing to do"


@pytest.mark.parametrize(
    ("status", "said", "command"),
    [
        (
            {"workers": [LOADING]},
            "is loading its model",
            "graycat status --watch",
        ),
        (
            {"workers": [LOADING | {"engine_state": "downloading"}]},
            "is downloading",
            "graycat status --watch",
        ),
        ({"workers": [WORKER | CRASHED]}, "(it died)", "graycat logs llm"),
        ({"workers": [WORKER | CRASHED | {"name": "quick@box"}]}, "(it died)", "graycat logs llm"),
        (
            {"workers": [WORKER | {"paused": True}]},
            "is paused",
            f"graycat worker resume {WORKER['name']}",
        ),
        ({"workers": [WORKER | {"consuming": False, "trouble": "no scripts"}]}, "takes no tasks: no scripts", ""),
        ({"workers": [WORKER | {"stuck": ["relay"]}]}, "stuck (relay)", ""),
        ({"missed": ["sd@box"]}, "sd@box fell silent", ""),
        ({"queues": [QUEUE | {"paused": True}]}, "llm is paused", "graycat queue resume llm"),
        (
            {"workers": [], "queues": [QUEUE | {"depth": 7, "consumers": 0}]},
            "for one: 7",
            "graycat worker llm",
        ),
        (
            {"workers": [], "queues": [QUEUE | {"name": "llm.quick", "depth": 1, "consumers": 0}]},
            *("queue llm.quick", "graycat worker quick"),
        ),
        (
            {"workers": [], "queues": [QUEUE | {"name": "sd.batch", "depth": 1, "consumers": 0}]},
            *("queue sd.batch", "graycat worker sd"),
        ),
        ({"processes": [PROCESS]}, "sd on box ends again and again (killed by SIGKILL)", "graycat up --check"),
        ({"processes": [PROCESS | {"state": "drained"}]}, "sd on box was drained", "graycat worker sd"),
        ({"held": HEALTHY["held"] | {"used": 90, "most": 100}}, "broker is full", ""),
        (batches(paused=2), "Paused batches: 2", "graycat batch list --state paused"),
        (batches(late=1), "Late batches: 1", "graycat batch list --state running"),
        ({"schedules": 3, "beat": False}, "do not fire: 3", "graycat beat"),
        ({"unreadable": ["graycat:fleet"]}, "docs/broker.md", ""),
        ({"notes": ["no worker has it"]}, "GRAYCAT_MODEL_ALIASES", ""),
        ({"broker": False}, "The broker does not answer", ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_trouble_has_one_thing_to_do(status: dict[str, Any], said: str, command: str) -> None:
    step = only(status)
    assert said in step.sentence
    assert step.command == command
    # A sentence, and what introduces a command.
    assert step.sentence.endswith(":" if command else ".")
    assert format_steps([step]).startswith("WHAT TO DO NEXT\n- ")


def test_a_worker_that_loads_is_the_reason_why_its_queue_waits() -> None:
    loading = {"workers": [LOADING]}
    assert "loading" in only(loading | {"queues": [QUEUE | {"depth": 7, "consumers": 0}]}).sentence


@pytest.mark.parametrize(
    ("queues", "commands"),
    [([], ["graycat worker llm", "graycat worker sd"]), (["llm", "llm.batch"], ["graycat worker sd"])],
    ids=["none", "llm"],
)
def test_what_is_not_served_has_something_to_do(queues: list[str], commands: list[str]) -> None:
    status = {"served": False, "reason": unserved_reason(["llm", "sd"])}
    status |= {"queues": [QUEUE | {"name": name, "consumers": 0} for name in ("llm", "llm.batch", "sd")]}
    starting = WORKER | {"engine_state": "stopped", "consuming": False, "queues": queues}
    assert [step.command for step in find_steps(HEALTHY | status | {"workers": [starting]})] == commands
    everything = starting | {"queues": ["llm", "sd"]}
    assert only(status | {"workers": [everything]}).command == WATCH


def test_of_many_the_first_are_shown() -> None:
    text = format_steps(Step(f"{number}.") for number in range(MAX_STEPS + 3))
    assert len(text.splitlines()) == 1 + MAX_STEPS + 1
    assert text.endswith("and 3 more; begin with the first")


def test_a_nearly_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(3e9))
    assert list(find_disk_steps(tmp_path)) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1e9))
    (step,) = find_disk_steps(tmp_path)
    assert (step.command, "1.0 GB" in step.sentence) == (f"du -sh {tmp_path}/*", True)
    monkeypatch.undo()
    assert list(find_disk_steps(tmp_path / "none")) == []


def test_a_name_from_elsewhere_is_no_command() -> None:
    name = f"llm@$(reboot); x{EVIL}"
    step = only({"workers": [WORKER | {"name": name, "paused": True}]})
    assert is_clean(format_steps([step]))
    words = shlex.split(step.command)
    assert words[:3] == ["graycat", "worker", "resume"]
    assert len(words) == 4
