"""``graycat completion``: the script with which a shell completes graycat's commands and options."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from graycat.cli.text import say

#: The variable by which click hears that a shell asks it for completions.
VARIABLE = "_GRAYCAT_COMPLETE"
SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command()
@click.argument("shell", type=click.Choice(list(SHELLS)))
def completion(shell: str) -> None:
    """Print a script for your shell. With it, the Tab key completes commands, options and values.

    Run one of these lines, then open a new terminal.

    \b
      graycat completion bash > ~/.local/share/bash-completion/completions/graycat
      graycat completion fish > ~/.config/fish/completions/graycat.fish
      graycat completion zsh > ~/.graycat-completion.zsh
      echo '. ~/.graycat-completion.zsh' >> ~/.zshrc

    The first needs the package bash-completion and the folder (mkdir -p). zsh needs "autoload -Uz compinit; compinit"
    in ~/.zshrc before.
    """
    # Of click's own root: its commands are those of the process that asks.
    script = SHELLS[shell](click.Group("graycat"), {}, "graycat", VARIABLE)
    say(script.source())
