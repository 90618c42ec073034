"""docs/cli.md, and what every command's ``--help`` has to keep to."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from graycat.cli import SECTIONS, cli, reference
from tests.support.helpers import ROOT

#: What a terminal shows in a line.
WIDTH = 80


def commands(command: click.Command = cli, path: str = "graycat") -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(cli)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, f"{path} {name}")


COMMANDS = dict(commands())


def test_the_page_is_that_of_the_commands() -> None:
    assert (ROOT / "docs" / "cli.md").read_text() == reference.render(), "run: make reference"


def test_the_page_has_every_command_and_every_option() -> None:
    page = reference.render()
    for path, command in COMMANDS.items():
        if command is cli:
            continue
        assert f"# {path}\n" in page
        for parameter in command.params:
            assert parameter.opts[0] in page or isinstance(parameter, click.Argument)


@pytest.mark.parametrize("path", COMMANDS)
def test_a_help_text_fits_a_terminal_and_is_whole(path: str) -> None:
    command = COMMANDS[path]
    text = command.get_help(click.Context(command, info_name=path, terminal_width=WIDTH))
    usage, _, rest = text.partition("\n\n")
    assert max(map(len, text.splitlines())) <= WIDTH
    # click ends a sentence with dots that is too long for a list of commands.
    assert [line for line in rest.splitlines() if line.endswith("...")] == []
    assert (command.help or "").strip()
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or (parameter.help or "").rstrip().endswith("."), parameter.name


@pytest.mark.parametrize("name", [name for section in SECTIONS.values() for name in section])
def test_the_list_of_commands_has_a_sentence_for_each(name: str) -> None:
    (sentence,) = (section[name] for section in SECTIONS.values() if name in section)
    assert sentence.endswith(".")
