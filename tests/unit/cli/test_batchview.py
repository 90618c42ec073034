from __future__ import annotations

from io import StringIO
from typing import Any

import pytest

from graycat.cli import batchview
from graycat.cli.text import say
from graycat.client.batches import Batch
from graycat.client.http import HttpTransport
from graycat.redaction.terminal import CLEAR_LINE
from tests.support.escapes import EVIL, is_clean

RAW: dict[str, Any] = {
    "id": "0123456789abcdef",
    "name": "tavern",
    "state": "running",
    "reason": "",
    "total": 20,
    "progress": {"done": 5, "running": 1, "waiting": 12, "queued": 1, "failed": 1, "cancelled": 0},
    "eta_s": 125.0,
    "gpu_s": 30.5,
    "submitted_ms": 1795568948184,
    "store": "art",
    "folder": "tests/tavern",
    "window": "01:00-06:00",
    "timezone": "UTC",
}


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def batch(**changes: Any) -> Batch:
    return Batch(HttpTransport("http://127.0.0.1:1", "", 0), RAW | changes)


def test_a_row_and_a_description() -> None:
    assert batchview.format_row(RAW) == "0123456789abcdef  running           5/20  2026-11-25T01:09:08Z  tavern"
    text = batchview.describe(RAW | {"reason": "why"})
    assert "running (why)" in text
    assert "5/20 done, 1 running, 1 queued, 12 waiting, 1 failed" in text
    assert "art: tests/tavern" in text
    assert "2 min 5 s" in text


def test_an_item_shows_its_file_or_its_error() -> None:
    raw: dict[str, Any] = {"number": 3, "state": "failed", "attempts": 2, "seed": 7, "file": "", "error": None}
    assert batchview.format_item(raw | {"file": "a.png"}).endswith("a.png")
    error = {"type": "engine_error", "message": "no"}
    assert batchview.format_item(raw | {"error": error}).endswith("engine_error: no")


def test_an_item_shows_what_it_is_among_the_others() -> None:
    raw: dict[str, Any] = {"number": 3, "state": "done", "attempts": 1, "seed": 7, "file": "a.png", "error": None}
    # A server of an earlier release has no labels.
    for item in (raw | {"label": "a dwarf, Euler a", "prompt": "a dwarf"}, raw | {"prompt": "a dwarf, Euler a"}):
        assert " ".join(batchview.format_item(item).split()) == "3 done 1 7 a dwarf, Euler a a.png"
    long = batchview.format_item(raw | {"label": "x" * 200})
    assert "x…  a.png" in long
    assert len(long) < 100


def test_a_forecast() -> None:
    raw: dict[str, Any] = {"total": 2, "items": [{"number": 1, "file": "1-a"}], "gpu_s": None, "eta_s": None}
    assert list(batchview.format_forecast(raw | {"prompts": 2, "engines": 0}))[1] == "2 prompts would be written first"
    lines = list(batchview.format_forecast(raw | {"gpu_s": 7200.0, "eta_s": 3600.0, "engines": 2, "prompts": None}))
    assert lines[1] == "GPU time: about 2 h 0 min; 1 h 0 min with the 2 engines that run now"
    assert lines[-1].endswith("1 more")
    assert "warning: why" in list(batchview.format_forecast(raw | {"warnings": ["why"]}))


@pytest.mark.parametrize(("seconds", "text"), [(3.14, "3.1 s"), (59, "59 s"), (61, "1 min 1 s"), (3700, "1 h 1 min")])
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert batchview.format_duration(seconds) == text


def test_progress_is_a_line_for_each_change_in_a_pipe_and_one_line_on_a_terminal() -> None:
    pipe, terminal = StringIO(), Terminal()
    for out in (pipe, terminal):
        meter = batchview.ProgressMeter(out)
        for changes in ({}, {"eta_s": 1.0}, {"state": "paused", "reason": "why"}):
            meter.show(batch(**changes))
        meter.clear()
    assert len(pipe.getvalue().splitlines()) == 2
    assert terminal.getvalue().count(CLEAR_LINE) == 4
    assert "\n" not in terminal.getvalue()


def test_nothing_of_a_batch_is_obeyed_by_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil = {field: str(RAW[field]) + EVIL for field in ("name", "reason", "folder", "store", "window")}
    raw = RAW | evil
    say(batchview.format_row(raw))
    say(batchview.describe(raw))
    item = {"number": 3, "state": "failed", "attempts": 2, "seed": 7, "file": "", "error": {"message": "no" + EVIL}}
    say(batchview.format_item(item))
    assert is_clean(capsys.readouterr().out)
