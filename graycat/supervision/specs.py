"""Which processes graycat consists of. The ``Procfile`` beside the package says the same, for other supervisors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graycat.queue.topology import WORKER_KINDS

#: How the commands begin that tell their supervisor when they do their work.
TELLING = tuple(f"graycat {name}" for name in ("beat", "broker", "engine ", "flower", "web", "worker "))


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process: its name in the output, and its command.

    ``drainable``: exit status 0 means that an operator has drained it, so it is not started again.
    """

    name: str
    command: str
    drainable: bool = False

    @property
    def tells_readiness(self) -> bool:
        """Return whether it tells its supervisor when it does its work (graycat/loops/readiness.py)."""
        return self.command.startswith(TELLING)

    @classmethod
    def from_command(cls, name: str, command: str) -> ProcessSpec:
        """Return the spec of a command as a Procfile names it; workers of graycat are drainable."""
        return cls(name, command, drainable=command.startswith("graycat worker "))


#: In the order of their start. A worker ends with status 0 only if it was asked to; the others never end by themselves.
PROCESSES = (
    ProcessSpec.from_command("broker", "graycat broker"),
    ProcessSpec.from_command("web", "graycat web"),
    *(ProcessSpec.from_command(kind, f"graycat worker {kind}") for kind in WORKER_KINDS),
    ProcessSpec.from_command("beat", "graycat beat"),
    ProcessSpec.from_command("flower", "graycat flower"),
    ProcessSpec.from_command("exporter", "graycat exporter"),
)


def procfile(processes: Iterable[ProcessSpec] = PROCESSES) -> str:
    """Return the text of a Procfile with these processes."""
    return "".join(f"{process.name}: {process.command}\n" for process in processes)


def parse_procfile(text: str) -> list[ProcessSpec]:
    """Return the processes of a Procfile: lines of ``name: command``; empty lines and comments are passed over."""
    found = []
    for line in text.splitlines():
        name, colon, command = line.partition(":")
        if colon and not line.lstrip().startswith("#"):
            found.append(ProcessSpec.from_command(name.strip(), command.strip()))
    return found
