"""Which processes graycat consists of. The ``Procfile`` beside the package says the same, for other supervisors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process: its name in the output, and its command.

    ``drainable``: exit status 0 means that an operator has drained it, so it is not started again.
    """

    name: str
    command: str
    drainable: bool = False


#: In the order of their start. A worker ends with status 0 only if it was asked to; the others never end by themselves.
PROCESSES = (
    ProcessSpec("broker", "graycat broker"),
    ProcessSpec("web", "graycat web"),
    ProcessSpec("llm", "graycat worker llm", drainable=True),
    ProcessSpec("quick", "graycat worker quick", drainable=True),
    ProcessSpec("sd", "graycat worker sd", drainable=True),
    ProcessSpec("control", "graycat worker control", drainable=True),
    ProcessSpec("beat", "graycat beat"),
    ProcessSpec("flower", "graycat flower"),
    ProcessSpec("exporter", "graycat exporter"),
)


def procfile(processes: Iterable[ProcessSpec] = PROCESSES) -> str:
    """Return the text of a Procfile with these processes."""
    return "".join(f"{process.name}: {process.command}\n" for process in processes)
