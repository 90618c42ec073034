from __future__ import annotations

from typing import Any

import pytest

from graycat.batches.states import ITEM_STATES, STATES
from graycat.cli.statusview import format_age, format_screen, format_size
from tests.support.escapes import EVIL, is_clean, poisoned

QUEUE = {"name": "llm", "depth": 0, "oldest_s": 0.0, "consumers": 1, "paused": False}
WORKER: dict[str, Any] = {
    "name": "llm@box-gpu1", "queues": ["llm"], "engine": "llama-server", "engine_state": "ready", "consuming": True,
    "paused": False, "slots": 4, "busy": 2, "models": [], "gpu": 1, "left": [], "failures": 0, "crash_loop": False,
    "gpu_state": {"utilization": 42, "memory_used": 3_200_000_000, "memory_total": 8e9, "temperature": 61},
    "last_failure": "", "retry_in_s": 0.0, "trouble": "",
}  # fmt: skip
FAILURE = {
    "at_ms": 1_795_000_000_000, "task_id": "abc", "kind": "llm.chat", "worker": "llm@box-gpu1", "state": "failed",
    "status": 502, "type": "engine_lost",
}  # fmt: skip
HEALTHY: dict[str, Any] = {
    "served": True, "reason": "", "broker": True, "queues": [QUEUE], "workers": [WORKER], "missed": [], "deliveries": 0,
    "held": {"events": 12_000, "artifacts": 3_400_000}, "failures": [],
    "batches": {"states": dict.fromkeys(STATES, 0), "items": dict.fromkeys(ITEM_STATES, 0), "late": 0},
}  # fmt: skip


def line_of(text: str, begin: str) -> str:
    """Return the line that begins so, with one blank between its words."""
    return next(" ".join(line.split()) for line in text.splitlines() if line.startswith(begin))


def test_a_healthy_server() -> None:
    text = format_screen(HEALTHY, "http://box:8000")
    assert text.startswith("http://box:8000: games are served\n")
    assert line_of(text, "llm ") == "llm 0 - 1"
    assert line_of(text, "llm@box-gpu1") == "llm@box-gpu1 llama-server ready 2/4 1: 42 %, 3.2 GB of 8.0 GB, 61 C"
    assert "events 12 kB, images 3.4 MB" in text
    assert "LAST ERRORS" not in text
    assert all(len(line) <= 120 for line in text.splitlines())


def test_a_crash_loop_says_its_reason_whole_and_once() -> None:
    reason = "engine cannot be started (there is no program /opt/engines/llama.cpp/build/bin/llama-server)"
    crashing = WORKER | {"consuming": False, "failures": 4, "crash_loop": True, "trouble": f"crash loop: {reason}"}
    line = line_of(format_screen(HEALTHY | {"workers": [crashing]}, "http://box:8000"), "llm@box-gpu1")
    assert line.endswith(f"takes no tasks, CRASH LOOP, 4 failures in a row, {reason}")


def test_failures_are_noted() -> None:
    crashing = WORKER | {"engine_state": "stopped", "consuming": False, "failures": 4, "crash_loop": True}
    crashing |= {"last_failure": "engine process died", "gpu_state": None}
    queue = QUEUE | {"depth": 7, "oldest_s": 12.3, "consumers": 0}
    status = HEALTHY | {"served": False, "reason": "nobody consumes llm", "queues": [queue], "workers": [crashing]}
    text = format_screen(status | {"missed": ["sd@box"], "failures": [FAILURE]}, "http://box:8000")
    assert text.startswith("http://box:8000: NOT SERVED: nobody consumes llm\n")
    assert line_of(text, "llm ") == "llm 7 12 s 0 no worker takes from it"
    assert "takes no tasks, CRASH LOOP, 4 failures in a row, engine process died" in line_of(text, "llm@box-gpu1")
    assert line_of(text, "sd@box") == "sd@box silent"
    assert line_of(text, "11-").endswith("llm.chat failed 502 engine_lost llm@box-gpu1 abc")


def test_a_paused_queue_and_a_paused_worker_are_noted() -> None:
    status = HEALTHY | {
        "queues": [QUEUE | {"paused": True}],
        "workers": [WORKER | {"paused": True, "left": ["llm.batch"]}],
    }
    text = format_screen(status, "")
    assert line_of(text, "llm ").endswith("paused")
    assert line_of(text, "llm@box-gpu1").endswith("paused, has left llm.batch")


def test_unfinished_batches_are_one_line() -> None:
    assert "batches" not in format_screen(HEALTHY, "")
    batches = {
        "states": dict.fromkeys(STATES, 0) | {"running": 2, "paused": 1, "failed": 4},
        "items": dict.fromkeys(ITEM_STATES, 0) | {"done": 30, "waiting": 60, "failed": 10},
        "late": 1,
    }
    text = format_screen(HEALTHY | {"batches": batches}, "")
    assert line_of(text, "batches:") == "batches: 2 running, 1 paused; 30 of 100 images made; LATE: 1"


def test_a_worker_without_an_engine_has_none() -> None:
    control = WORKER | {"name": "control@box", "engine": "", "slots": 16, "busy": 0, "gpu": None}
    assert line_of(format_screen(HEALTHY | {"workers": [control]}, ""), "control@box") == "control@box - - 0/16 -"


def test_without_a_broker_only_the_reason_is_shown() -> None:
    status = {"served": False, "reason": "the broker is away", "broker": False, "queues": [], "failures": []}
    assert format_screen(status, "http://box") == "http://box: NOT SERVED: the broker is away"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.44, "0.4 s"), (12.3, "12 s"), (119, "119 s"), (180, "3 min"), (18_000, "5 h")]
)
def test_an_age_has_one_unit(seconds: float, text: str) -> None:
    assert format_age(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (800, "800 B"), (1200, "1.2 kB"), (45_000_000, "45 MB"), (8e13, "80000 GB")]
)
def test_a_size_has_the_unit_that_fits(number: float, text: str) -> None:
    assert format_size(number) == text


def test_processes_that_do_not_run_and_what_was_set_aside_are_shown() -> None:
    crashed: dict[str, Any] = {"name": "sd", "machine": "box", "state": "crash loop", "pid": None, "restarts": 4}
    crashed |= {"last_end": "killed by SIGKILL", "retry_in_s": 8.0}
    running = crashed | {"name": "web", "state": "running"}
    item = {"at_ms": 1_700_000_000_000, "where": "queue llm", "reason": "ValueError", "size": 12}
    screen = format_screen(HEALTHY | {"processes": [crashed, running], "quarantine": [item]}, "http://h")
    assert "CRASH LOOP" in screen
    assert "killed by SIGKILL" in screen
    assert "in 8.0 s" in screen
    assert "queue llm" in screen
    assert "web" not in screen.partition("NOT RUNNING")[2].partition("SET ASIDE")[0]


def test_the_broker_s_memory_is_told_with_its_limit() -> None:
    held = HEALTHY["held"] | {"used": 500_000_000, "most": 1e9, "stored": 7_000_000}
    text = format_screen(HEALTHY | {"held": held}, "http://box:8000")
    assert "inputs of tasks 7.0 MB; webhook" in text
    assert line_of(text, "its memory") == "its memory: 500 MB of 1.0 GB"
    assert all(len(line) <= 120 for line in text.splitlines())
    text = format_screen(HEALTHY | {"held": held | {"most": 0}}, "http://box:8000")
    assert line_of(text, "its memory") == "its memory: 500 MB, without a limit"
    text = format_screen(HEALTHY | {"held": held | {"used": 850_000_000}}, "http://box:8000")
    assert line_of(text, "its memory") == "its memory: 850 MB of 1.0 GB, FULL: no new task is accepted"


def test_nothing_on_the_screen_is_obeyed_by_a_terminal() -> None:
    worker = {**WORKER, "stuck": ["relay"], "left": ["llm"], "last_failure": "died", "trouble": "why"}
    status = HEALTHY | {
        "served": False,
        "reason": "x" + EVIL,
        "queues": [QUEUE | {"name": "llm" + EVIL}],
        "workers": [poisoned(worker)],
        "failures": [poisoned(FAILURE)],
        "unreadable": ["key" + EVIL],
        "notes": ["alias" + EVIL],
        "missed": ["sd@" + EVIL],
    }
    assert is_clean(format_screen(status, "http://box" + EVIL))


def test_schedules_without_a_beat_are_noted() -> None:
    said = "NO BEAT: 2 schedules do not fire"
    assert said in format_screen(HEALTHY | {"beat": False, "schedules": 2}, "http://box:8000")
    assert said not in format_screen(HEALTHY | {"beat": True, "schedules": 2}, "http://box:8000")
    assert "NO BEAT" not in format_screen(HEALTHY, "http://box:8000")


def test_notes_of_the_server_are_shown() -> None:
    note = "no worker has the model 'gone'"
    assert note in format_screen(HEALTHY | {"notes": [note]}, "http://box:8000")
