"""The table of faults: each module of this package has ``FAULTS``, and ``all_faults`` gathers them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from chaos.system import System


@dataclass(frozen=True)
class Fault:
    """One fault.

    ``apply`` does it and returns when it is over: the fault itself or the supervisor has undone the harm. It calls
    ``system.harm_done()`` at the moment from which recovery is counted; without that, the moment is when it began.
    ``short``: it is part of the short form. ``env``: settings of a system of its own. ``permits``: kinds of violations
    that are promised to happen, such as streams that break because the process that carried them was killed; or a
    kind and its subject, such as ``left paused queues``.
    """

    name: str
    group: str
    what: str
    apply: Callable[[System], None]
    short: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    permits: frozenset[str] = frozenset()
    #: Whether it leaves things that are to be there, so that it has a system of its own.
    alone: bool = False
    #: Whether all of graycat is started anew: no supervisor does that, so the times of supervised restarts are not its.
    starts_anew: bool = False


#: A stream's connection is one of the process that was killed; so are the others that it carried.
BREAKS = frozenset({"broken stream", "broken image", "broken request"})
#: While a part is away, callers are told so and may try again: 503, or no connection.
REFUSES = frozenset({"refused stream", "refused image", "refused request", "refused command"})
#: Work under way may end in an error that its caller can read.
ENDS = frozenset({"error stream", "error image", "error request"})


def all_faults() -> list[Fault]:
    """Return the faults of all modules, in the order of their names; each module orders its own."""
    found: list[Fault] = []
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        found += importlib.import_module(f"{__name__}.{module.name}").FAULTS
    return found
