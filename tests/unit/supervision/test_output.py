from __future__ import annotations

import io
import os
import re

from graycat.supervision.output import MAX_LINE_BYTES, OutputPrinter
from tests.support.helpers import eventually


class Terminal(io.StringIO):
    """A terminal that takes colours."""

    def isatty(self) -> bool:
        return True


def lines_of(target: io.StringIO) -> list[str]:
    """Return what was printed, without the times."""
    return [re.sub(r"\d\d:\d\d:\d\d ", "", line) for line in target.getvalue().splitlines()]


def printed(*writes: bytes) -> list[str]:
    """Return the lines that come of some writes to the pipe of the process ``web``."""
    target = io.StringIO()
    printer = OutputPrinter(["web", "broker"], target)
    read, write = os.pipe()
    printer.add("web", os.fdopen(read, "rb", buffering=0))
    for data in writes:
        os.write(write, data)
    os.close(write)
    eventually(lambda: not printer._rests and not printer._added)
    return lines_of(target)


def test_each_line_has_the_name_of_its_process() -> None:
    assert printed(b"one\ntwo\n") == ["web    | one", "web    | two"]


def test_a_line_that_comes_in_pieces_is_printed_whole() -> None:
    assert printed(b"on", b"e\r\ntw", b"o\n") == ["web    | one", "web    | two"]


def test_what_has_no_end_of_line_is_printed_at_the_end() -> None:
    assert printed(b"one\nlast words") == ["web    | one", "web    | last words"]


def test_bytes_that_are_no_text_end_nothing() -> None:
    assert printed(b"\xff\xfe\nstill here\n")[-1] == "web    | still here"


def test_a_line_without_an_end_does_not_fill_the_memory() -> None:
    target = io.StringIO()
    printer = OutputPrinter(["web"], target)
    read, write = os.pipe()
    printer.add("web", os.fdopen(read, "rb", buffering=0))
    for _ in range(MAX_LINE_BYTES // 4096 + 2):
        os.write(write, b"x" * 4096)
    eventually(lambda: target.getvalue() != "")
    os.close(write)


def test_names_have_colours_on_a_terminal_alone() -> None:
    terminal, file = Terminal(), io.StringIO()
    for target in (terminal, file):
        OutputPrinter(["web"], target).say("web", "hello")
    assert "\033[" in terminal.getvalue()
    assert "\033[" not in file.getvalue()


def test_a_terminal_that_is_gone_ends_nothing() -> None:
    target = io.StringIO()
    printer = OutputPrinter(["web"], target)
    target.close()
    printer.say("web", "nobody reads this")
