from __future__ import annotations

import io
import re

import pytest

from graycat.redaction.terminal import CLEAR_LINE
from graycat.supervision.notifications import Notification
from graycat.supervision.output import OutputPrinter
from graycat.supervision.startup import StartupConsole

LOADING = Notification(False, "text engine: loading SmolLM2")


class Target(io.StringIO):
    """A file, or a terminal."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


class Console(StartupConsole):
    """A console and what it has printed."""

    def __init__(self, *, terminal: bool = False) -> None:
        self.target = Target(terminal=terminal)
        super().__init__(OutputPrinter(["web", "llm"], self.target))

    def printed(self) -> list[str]:
        """Return the lines so far, without times and colours."""
        text = re.sub(r"\033\[0;?\d*m|\d\d:\d\d:\d\d ", "", self.target.getvalue())
        return text.removesuffix("\n").split("\n") if text else []

    def live(self) -> str:
        """Return what stands on the terminal's last line now."""
        return self.target.getvalue().rpartition("\n")[2].rpartition(CLEAR_LINE)[2]


def test_a_process_that_is_ready_is_one_line() -> None:
    console = Console()
    console.process_started("web", 0.0)
    console.take("web", Notification(True, "http://127.0.0.1:8000"), 1.0)
    console.take("llm", Notification(True), 1.0)
    assert console.printed() == ["web | ready: http://127.0.0.1:8000", "llm | ready"]


def test_what_is_waited_for_is_said_at_growing_intervals_with_the_time_that_it_takes() -> None:
    console = Console()
    console.step(0.0)
    for name in ("web", "llm"):
        console.process_started(name, 0.0)
    console.take("llm", LOADING, 2.0)
    for now in range(1, 100):
        console.step(float(now))
    assert console.printed() == [
        "up  | waiting: text engine: loading SmolLM2, 3 s; starting web, 5 s",
        "up  | waiting: text engine: loading SmolLM2, 13 s; starting web, 15 s",
        "up  | waiting: text engine: loading SmolLM2, 33 s; starting web, 35 s",
        "up  | waiting: text engine: loading SmolLM2, 73 s; starting web, 75 s",
    ]


def test_a_download_is_a_number_in_a_file_and_a_bar_on_a_terminal() -> None:
    downloading = Notification(False, "text engine: downloading a.gguf", 0.25)
    file, terminal = Console(), Console(terminal=True)
    for console in (file, terminal):
        console.step(0.0)
        console.process_started("web", 0.0)
        console.take("llm", downloading, 1.0)
        # That it goes on begins no new wait.
        console.take("llm", Notification(False, downloading.text, 0.5), 2.0)
        console.step(5.0)
    assert file.printed() == ["up  | waiting: text engine: downloading a.gguf 50 %, 4 s; starting web, 5 s"]
    assert terminal.live() == f"text engine: downloading a.gguf [{'#' * 12}{'-' * 12}] 50 %, 4 s; starting web"[:79]
    assert "\r" not in file.target.getvalue()


def test_lines_go_above_what_a_terminal_shows_at_its_end() -> None:
    console = Console(terminal=True)
    console.take("llm", LOADING, 0.0)
    console.step(1.0)
    console.take("web", Notification(True), 1.0)
    assert console.live() == "text engine: loading SmolLM2, 1 s"
    console.take("llm", Notification(True), 2.0)
    console.step(2.0)
    assert console.live() == ""
    assert [line.rpartition(CLEAR_LINE)[2] for line in console.printed()] == ["web | ready", "llm | ready", ""]


def test_if_all_processes_are_ready_the_web_server_s_reason_is_said() -> None:
    console = Console()
    console.step(0.0)
    console.step(6.0)
    console.reason = "no worker consumes sd"
    console.step(20.0)
    assert console.printed() == ["up  | waiting: no worker consumes sd, 20 s"]


@pytest.mark.parametrize("terminal", [True, False])
def test_behind_the_greeting_nothing_is_waited_for(terminal: bool) -> None:
    console = Console(terminal=terminal)
    console.take("llm", LOADING, 0.0)
    console.step(0.0)
    console.greeting = "\ngraycat is ready"
    for now in (1.0, 100.0):
        console.step(now)
    assert console.printed()[-1] == "graycat is ready"
    assert console.target.getvalue().count("graycat is ready\n") == 1
    assert console.live() == ""
    # A process that is ready later still says so.
    console.take("llm", Notification(True), 101.0)
    assert console.printed()[-1] == "llm | ready"


def test_a_process_that_has_ended_is_not_waited_for() -> None:
    console = Console()
    console.step(0.0)
    console.process_started("web", 0.0)
    console.process_ended("web")
    console.step(10.0)
    assert console.printed() == []
