from __future__ import annotations

import click

from graycat.cli import cli
from graycat.queue.topology import WORKER_KINDS
from graycat.supervision.specs import PROCESSES, ProcessSpec, parse_procfile, procfile
from tests.support.helpers import ROOT


def test_the_procfile_says_the_same() -> None:
    assert (ROOT / "Procfile").read_text() == procfile()


def test_each_command_is_one_of_graycat() -> None:
    for spec in PROCESSES:
        words = spec.command.split()
        assert words[0] == "graycat"
        command: click.Command | None = cli
        for word in words[1:]:
            assert isinstance(command, click.Group)
            command = command.get_command(click.Context(command), word)
        assert command is not None


def test_each_kind_of_worker_has_a_process_that_may_be_drained() -> None:
    workers = {spec.command.split()[2] for spec in PROCESSES if spec.drainable}
    assert workers == set(WORKER_KINDS)


def test_a_procfile_is_read_as_it_is_written() -> None:
    assert parse_procfile(procfile()) == list(PROCESSES)
    text = "# comment: no process\n\nmine:  graycat worker llm --gpu 1\nother: a: b\n"
    assert parse_procfile(text) == [
        ProcessSpec("mine", "graycat worker llm --gpu 1", drainable=True),
        ProcessSpec("other", "a: b"),
    ]
