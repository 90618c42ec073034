"""How a command speaks of an API token or a password that it must not print everywhere."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Credential:
    """A secret of this installation: the operator has configured it, or graycat has made it and keeps it in a file.

    What is printed may be kept for years by whatever collects the output, so a secret that was made is printed to a
    terminal only, and one that was configured never: its operator has it.
    """

    #: The setting that configures it.
    variable: str
    #: Where it lies if it was made; only the file's owner can read it.
    file: Path
    #: '' if it was configured.
    made: str

    def describe(self) -> str:
        """Return it as a line may show it: the secret itself, its file, or its setting."""
        if not self.made:
            return f"that of {self.variable}"
        if sys.stdout.isatty():
            return self.made
        return f"in {self.file}"

    def word(self) -> str:
        """Return it as a word for a shell."""
        if not self.made:
            return "YOUR_API_TOKEN"
        if sys.stdout.isatty():
            return shlex.quote(self.made)
        return f'"$(cat {shlex.quote(str(self.file))})"'
