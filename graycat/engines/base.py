"""What an engine is to a worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class State(StrEnum):
    """Where an engine is in its life."""

    STOPPED = "stopped"
    LOADING = "loading"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What a healthy engine says of itself. ``props`` and ``model_list`` are its JSON as it came."""

    slots: int
    props: bytes
    models: tuple[str, ...] = ()
    model_list: bytes = b""


class Engine(Protocol):
    """An engine server, started by its worker or adopted."""

    name: str
    url: str

    def command(self) -> Sequence[str] | None:
        """Return the command that starts it; None for one that runs already."""

    def healthy(self) -> bool:
        """Tell whether it is up with its model loaded; answers within two seconds."""

    def describe(self) -> EngineInfo:
        """Ask it for its slots and properties. Raises EngineLost."""
