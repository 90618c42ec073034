"""The interface between a worker and its engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import Any, Protocol

from graycat.bounds.stored import parse_json
from graycat.engines.client import Call, EngineClient
from graycat.errors import EngineLost, EngineUnauthorized, GraycatError


class State(StrEnum):
    """The states of an engine."""

    STOPPED = "stopped"
    #: Its checkpoints are being downloaded.
    DOWNLOADING = "downloading"
    LOADING = "loading"
    READY = "ready"
    #: Its process runs and accepts connections, but does not answer.
    STUCK = "stuck"


class Health(StrEnum):
    """The result of one health check."""

    HEALTHY = "healthy"
    #: It answers, but is not ready for work.
    LOADING = "loading"
    #: It accepts the connection, but does not answer in time.
    UNRESPONSIVE = "unresponsive"
    #: Nothing listens at its address.
    UNREACHABLE = "unreachable"
    #: It refuses the API key or password that graycat sends.
    UNAUTHORIZED = "unauthorized"


#: Seconds that a health check waits for an answer.
PROBE_TIMEOUT_S = 2.0
#: The statuses with which an engine refuses an API key or password.
UNAUTHORIZED_STATUSES = (401, 403)


def health_from_error(error: EngineLost) -> Health:
    """Return the health of an engine to which a call failed."""
    if isinstance(error, EngineUnauthorized):
        return Health.UNAUTHORIZED
    if isinstance(error.__cause__, TimeoutError):
        return Health.UNRESPONSIVE
    return Health.UNREACHABLE


class ModelRouter(Protocol):
    """An engine of several models, asked for by their names. ``default``: the id of that of requests without one."""

    default: str

    def address(self, method: str, path: str, body: bytes, call: Call) -> tuple[str, bytes]:
        """Return path and body of a request as it takes them. Raises EngineError, EngineLost."""


@dataclass(frozen=True)
class EngineInfo:
    """What a healthy engine tells about itself. ``props`` and ``model_list`` are its JSON replies, of known fields."""

    slots: int
    props: bytes = b"{}"
    models: tuple[str, ...] = ()
    model_list: bytes = b""
    #: Its other lists, which it answers without work: path to JSON reply, unchanged.
    catalog: Mapping[str, bytes] = field(default_factory=dict)
    #: JSON strings in its answers that name its model by a file path, with the names that callers read instead.
    names: Mapping[bytes, bytes] = field(default_factory=dict)
    #: How requests name their model, if it has several.
    router: ModelRouter | None = None

    def hide_model_paths(self, answer: bytes) -> bytes:
        """Return an answer, or an event of it, with its model's name in place of the path."""
        for path, name in self.names.items():
            answer = answer.replace(path, name)
        return answer

    @cached_property
    def lists(self) -> Mapping[str, Any]:
        """Return the catalog parsed; what is no JSON is left out."""
        parsed = {}
        for name, reply in self.catalog.items():
            with suppress(ValueError):
                parsed[name] = parse_json(reply)
        return parsed

    @cached_property
    def version(self) -> str:
        """Return an identifier of this content of the catalog; '' if the catalog is empty."""
        if not self.catalog:
            return ""
        digest = sha256()
        for name, reply in sorted(self.catalog.items()):
            digest.update(name.encode() + b"\0" + reply + b"\0")
        return digest.hexdigest()[:16]


class EngineUnusable(EngineLost):
    """Raised when an engine answers and cannot be used as it is; the message tells the operator why."""

    def __init__(self, reason: str) -> None:
        GraycatError.__init__(self, reason)


class Engine(Protocol):
    """An engine server, started by its worker or adopted (running already)."""

    name: str
    url: str
    client: EngineClient
    #: Seconds that a health check may have to wait for an answer behind the engine's own work; 0 if it never does.
    busy_timeout_s: float

    def command(self) -> Sequence[str] | None:
        """Return the command that starts it; None for one that runs already."""

    def health(self, timeout_s: float = PROBE_TIMEOUT_S) -> Health:
        """Check whether it runs and its model is loaded.

        Returns within ``timeout_s``, or twice that if nothing listens at its address.
        """

    def describe(self) -> EngineInfo:
        """Ask it for its slots and properties. Raises EngineLost."""

    def explain(self) -> str:
        """Return why its last health check found it loading, as far as its answers tell; '' if they do not."""
