"""What an engine is to a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import Protocol

from graycat.engines.http import EngineClient


class State(StrEnum):
    """Where an engine is in its life."""

    STOPPED = "stopped"
    #: Its checkpoints are not all here yet.
    DOWNLOADING = "downloading"
    LOADING = "loading"
    READY = "ready"


@dataclass(frozen=True)
class EngineInfo:
    """What a healthy engine says of itself. ``props`` and ``model_list`` are its JSON as it came."""

    slots: int
    props: bytes = b"{}"
    models: tuple[str, ...] = ()
    model_list: bytes = b""
    #: What else it answers without work: its replies, JSON as they came, by path.
    catalog: Mapping[str, bytes] = field(default_factory=dict)

    @cached_property
    def version(self) -> str:
        """Return a name for this state of the catalog; '' where there is none."""
        digest = sha256()
        for name, reply in sorted(self.catalog.items()):
            digest.update(name.encode() + b"\0" + reply + b"\0")
        return digest.hexdigest()[:16] if self.catalog else ""


class Engine(Protocol):
    """An engine server, started by its worker or adopted."""

    name: str
    url: str
    client: EngineClient

    def command(self) -> Sequence[str] | None:
        """Return the command that starts it; None for one that runs already."""

    def healthy(self) -> bool:
        """Tell whether it is up with its model loaded; answers within two seconds."""

    def describe(self) -> EngineInfo:
        """Ask it for its slots and properties. Raises EngineLost."""
