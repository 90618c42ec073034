"""The page of every command, docs/cli.md, made from the commands themselves.

``make reference`` writes it (``python -m graycat.cli.reference``), and a test compares it with the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from inspect import cleandoc
from textwrap import dedent

import click

from graycat.cli import SECTIONS, cli
from graycat.cli.text import say

#: Options of every command that calls a server. The page has them once.
SERVER_OPTIONS = ("url", "token", "patience")
#: click's mark of a paragraph that is printed as it stands.
AS_IT_STANDS = "\b\n"
#: In a table, a bar in code ends the cell without this.
CODE_BAR = r"\|"
INTRODUCTION = """\
# The commands

`graycat COMMAND --help` prints the same. This page is made from the commands by `make reference`; do not edit it.

In the usage, what stands in `[ ]` may be left out, `A|B` is a choice, and `...` means that more may follow. Settings
(`HOST`, `GRAYCAT_HOME`, ...) are environment variables, or lines of a file `.env` ([.env.example](../.env.example)).

## Shell completion

With it, the Tab key completes commands, options and their values. For bash, with the package `bash-completion`:

```
mkdir -p ~/.local/share/bash-completion/completions
graycat completion bash > ~/.local/share/bash-completion/completions/graycat
```

Then open a new terminal. For zsh and fish: [graycat completion](#graycat-completion).

## Options for the server

Most commands that call a server have them:"""
SEE_SERVER_OPTIONS = "It also has [the options for the server](#options-for-the-server)."


def render() -> str:
    """Return the page, in Markdown."""
    commands = dict(_walk(cli, "graycat"))
    example = commands["graycat task show"]
    server_options = [option for option in example.params if option.name in SERVER_OPTIONS]
    parts = [INTRODUCTION, _format_options(_option_records(example, server_options))]
    for title, names in SECTIONS.items():
        parts.append(f"## {title}")
        for name in names:
            for path, command in commands.items():
                if path.split()[1:2] == [name]:
                    parts += _describe(command, path, server_options)
    return "\n\n".join(parts) + "\n"


def _walk(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield a command and all below it, each with its whole name."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None:
                yield from _walk(below, f"{path} {name}")


def _describe(command: click.Command, path: str, server_options: Sequence[click.Parameter]) -> list[str]:
    """Return the parts of a page that tell of one command."""
    usage = " ".join((path, *command.collect_usage_pieces(click.Context(command, info_name=path))))
    parts = [f"{'#' * (path.count(' ') + 2)} {path}", f"```\n{usage}\n```", *_paragraphs(command.help or "")]
    records = _option_records(command, command.params)
    shared = _option_records(command, server_options)
    calls_server = all(record in records for record in shared)
    if calls_server:
        records = [record for record in records if record not in shared]
    if records:
        parts.append(_format_options(records))
    if calls_server:
        parts.append(SEE_SERVER_OPTIONS)
    return parts


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text; what click prints as it stands becomes a block."""
    for paragraph in cleandoc(text).split("\n\n"):
        if paragraph.startswith(AS_IT_STANDS):
            yield f"```\n{dedent(paragraph.removeprefix(AS_IT_STANDS))}\n```"
        else:
            yield _escape(" ".join(paragraph.split()))


def _option_records(command: click.Command, parameters: Sequence[click.Parameter]) -> list[tuple[str, str]]:
    """Return the names and the help text of each option among a command's parameters."""
    records = []
    for parameter in parameters:
        record = parameter.get_help_record(click.Context(command))
        if record is not None:
            records.append(record)
    return records


def _format_options(records: Sequence[tuple[str, str]]) -> str:
    """Return a table of options."""
    rows = ["| option | |", "|---|---|"]
    for names, text in records:
        rows.append(f"| `{names.replace('|', CODE_BAR)}` | {_escape(' '.join(text.split()))} |")
    return "\n".join(rows)


def _escape(text: str) -> str:
    """Return a text in which no character of those that occur here means anything to Markdown."""
    return re.sub(r"([\\<*|])", r"\\\1", text)


if __name__ == "__main__":
    say(render(), nl=False)
