"""Whether this server can answer, as its page tells anybody: without names of machines, models or API tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from graycat.errors import BrokerUnavailable
from graycat.families import FAMILIES, EngineFamily
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import select_serving
from graycat.web.api.health import stuck_here
from graycat.web.services import Services

#: What the page calls the families of engines.
TITLES = {"llm": "Text", "sd": "Images"}
READY = "ready"
#: What an engine's state means for who waits; other states are a fault.
_STATES = {
    "stopped": "its engine starts",
    "downloading": "its engine downloads a model",
    "loading": "its engine loads a model",
    "stuck": "its engine does not answer",
}
NO_QUICK = "short calls, such as counting tokens, are not served"
NOTHING = "no engine runs here, and no worker elsewhere serves one"
BROKER_AWAY = "the broker does not answer; graycat tries again by itself"
PLACEHOLDER = "ready; a placeholder draws the images, no model"


@dataclass(frozen=True, slots=True)
class Part:
    """One family of engines: what it is called, whether it serves, and how it is in a few words."""

    title: str
    ready: bool
    state: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether everything serves that should, and how each family is. ``reason``: what is wrong with all of them."""

    ready: bool
    reason: str = ""
    parts: tuple[Part, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def read(services: Services) -> Readiness:
    """Return how this server is."""
    try:
        workers = services.workers()
    except BrokerUnavailable:
        return Readiness(ready=False, reason=BROKER_AWAY)
    missing = services.missing_queues(workers)
    parts = []
    for family in FAMILIES:
        part = _describe(family, workers, missing)
        if part.ready or family.is_enabled(services.settings):
            parts.append(part)
    reason = stuck_here()
    if not reason and services.serves_nothing(workers):
        reason = NOTHING
    return Readiness(ready=not missing and not reason, reason=reason, parts=tuple(parts))


def _describe(family: EngineFamily, workers: list[WorkerStatus], missing: Sequence[str]) -> Part:
    title = TITLES.get(family.name, family.name)
    serving = select_serving(workers, family.interactive)
    if serving and family.quick in missing:
        return Part(title, False, NO_QUICK)
    if serving:
        state = READY
        if all(worker.engine == "placeholder" for worker in serving):
            state = PLACEHOLDER
        return Part(title, True, state)
    return Part(title, False, _explain(family, workers))


def _explain(family: EngineFamily, workers: list[WorkerStatus]) -> str:
    """Return why no worker serves a family."""
    found = [worker for worker in workers if family.interactive in worker.queues]
    if not found:
        return "no worker has reported itself"
    if any(worker.crash_loop for worker in found):
        return "its engine fails again and again"
    if any(worker.paused or family.interactive in worker.left for worker in found):
        return "paused by an operator"
    return _STATES.get(found[0].engine_state, "its worker takes no tasks")
