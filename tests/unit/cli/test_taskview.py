from __future__ import annotations

import io
from typing import Any

import pytest

from graycat.cli.taskview import ProgressMeter, describe, format_answer, format_progress, format_row
from graycat.cli.text import say
from graycat.client import Progress, TaskView
from tests.support.escapes import EVIL, is_clean

RAW = {"id": "a1", "kind": "sd.txt2img", "state": "queued", "priority": "batch", "submitted_ms": 1_000}


def view(**changes: Any) -> TaskView:
    return TaskView.from_json(RAW | changes)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_in_words() -> None:
    assert format_progress(Progress(0.5)) == " 50%"
    assert format_progress(Progress(1.0, 0.0, 20, 20)) == "100%, step 20/20"
    assert format_progress(Progress(0.07, 61.4, 9, 20, 1, 4)) == "  7%, step 9/20, image 2/4, 61 s left"


def test_a_terminal_has_one_line_that_is_removed_at_the_end() -> None:
    out = Terminal()
    meter = ProgressMeter(out)
    meter.show_queued(view(queue_position=3))
    meter.show(Progress(0.5, 2.0, 10, 20))
    meter.clear()
    shown = out.getvalue().split("\r\x1b[K")
    assert shown == ["", "queued, position 3", f"[{'#' * 15}{'-' * 15}]  50%, step 10/20, 2 s left", ""]


def test_a_pipe_gets_a_line_for_each_change_but_none_for_waiting() -> None:
    out = io.StringIO()
    meter = ProgressMeter(out)
    meter.show_queued(view())
    for fraction in (0.1, 0.1, 0.2):
        meter.show(Progress(fraction))
    meter.clear()
    assert out.getvalue() == " 10%\n 20%\n"


def test_a_row_is_one_line() -> None:
    assert format_row(view()).split() == ["a1", "queued", "sd.txt2img", "batch", "1970-01-01T00:00:01Z"]
    assert format_row(TaskView("a1", "llm.chat", "failed")).endswith("llm.chat")


def test_a_description_has_the_known_fields() -> None:
    held = describe(view(queue="sd", queue_position=2, eta_reason="the queue sd is paused"), "http://box")
    assert "sd (position 2; the queue sd is paused)" in held
    waiting = describe(view(queue="sd", queue_position=2, eta_s=3.0, metadata={"run": 7}), "http://box")
    assert "queue:     sd (position 2, about 3 s)" in waiting
    assert 'metadata:  {"run": 7}' in waiting
    assert "worker" not in waiting
    running = describe(view(state="running", progress={"progress": 0.5}, attempt=1), "http://box")
    assert "progress:   50%" in running
    failed = describe(view(state="failed", status=504, error={"type": "task_timeout", "message": "late"}), "http://box")
    assert "error:     late (task_timeout)" in failed
    done = describe(view(state="succeeded", result={"images": [{"url": "/tasks/a1/images/0"}]}), "http://box")
    assert done.endswith("\n\nhttp://box/tasks/a1/images/0")


@pytest.mark.parametrize(
    ("result", "text"),
    [({"content": "Hi"}, "Hi"), ({"tokens": [1]}, '{"tokens": [1]}'), ([[0.5]], "[[0.5]]"), (None, "")],
)
def test_an_answer_is_its_text_or_its_json(result: Any, text: str) -> None:
    assert format_answer(view(state="succeeded", result=result)) == text


def test_nothing_of_a_task_is_obeyed_by_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    error = {"type": "x" + EVIL, "message": "no" + EVIL, "code": 500}
    evil = {name: f"x{EVIL}" for name in ("kind", "queue", "worker", "engine", "retry_of", "priority")}
    failed = view(**evil, state="failed", error=error, status=500)
    say(format_row(failed))
    say(describe(failed, "http://box"))
    assert is_clean(capsys.readouterr().out)
