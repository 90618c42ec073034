"""What an engine is to a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import Protocol

from graycat.engines.client import EngineClient
from graycat.errors import EngineLost, EngineUnauthorized


class State(StrEnum):
    """Where an engine is in its life."""

    STOPPED = "stopped"
    #: Its checkpoints are not all here yet.
    DOWNLOADING = "downloading"
    LOADING = "loading"
    READY = "ready"
    #: It runs and takes connections, but does not answer.
    STUCK = "stuck"


class Health(StrEnum):
    """The result of one health check."""

    HEALTHY = "healthy"
    #: It answers, but is not ready for work.
    LOADING = "loading"
    #: It takes the connection, but does not answer in time.
    UNRESPONSIVE = "unresponsive"
    #: Nothing listens at its address.
    UNREACHABLE = "unreachable"
    #: It refuses the API key or password that graycat sends.
    UNAUTHORIZED = "unauthorized"


#: Statuses by which an engine refuses a key or password.
UNAUTHORIZED_STATUSES = (401, 403)


def health_from_error(error: EngineLost) -> Health:
    """Return what a call that broke off says of an engine."""
    if isinstance(error, EngineUnauthorized):
        return Health.UNAUTHORIZED
    return Health.UNRESPONSIVE if isinstance(error.__cause__, TimeoutError) else Health.UNREACHABLE


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
    #: Seconds that a look at its health may have to wait behind its own work; 0 where it never does.
    patience_s: float

    def command(self) -> Sequence[str] | None:
        """Return the command that starts it; None for one that runs already."""

    def health(self) -> Health:
        """Look whether it is up with its model loaded; answers within two seconds, or four where nobody is there."""

    def describe(self) -> EngineInfo:
        """Ask it for its slots and properties. Raises EngineLost."""
