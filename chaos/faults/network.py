"""A network that carries nothing in one direction or in both: between graycat and its broker, and for one box alone."""

from __future__ import annotations

import time
from functools import partial

from chaos.brokers import PROXY, SETTING
from chaos.faults import BREAKS, ENDS, REFUSES, Fault
from chaos.faults.broker import proxied
from chaos.system import SPARE, System
from tests.support.proxies import Direction

OUTSIDE = {SETTING: PROXY}
#: Seconds without a network for all, and for one box: many leases.
SILENT_S, CUT_S = 8.0, 30.0


def hold(directions: tuple[Direction, ...], system: System) -> None:
    """Carry nothing between graycat and its broker in these directions for some time; connections stay open."""
    way = proxied(system).home
    way.hold(*directions)
    try:
        time.sleep(SILENT_S)
    finally:
        way.release()
        system.harm_done()


def drop(system: System) -> None:
    """End every connection to the broker at once."""
    proxied(system).home.drop()
    system.harm_done()


def cut_one_box(directions: tuple[Direction, ...], system: System) -> None:
    """Cut one of two text workers off from the broker until its tasks are done by the other one; then it comes back."""
    broker = proxied(system)
    with system.spare_worker("llm", {"REDIS_URL": broker.url_by(broker.box)}):
        system.wait_until_busy("llm", SPARE)
        broker.box.hold(*directions)
        try:
            time.sleep(CUT_S)
        finally:
            ended = system.count_ends("succeeded", SPARE)
            broker.box.release()
            system.harm_done()
        # What it has sent of its old tasks arrives before it takes new ones.
        system.wait_for_end_of_attempt("succeeded", ended, SPARE)


BOTH: tuple[Direction, ...] = ("there", "back")
FAULTS = [
    Fault(
        "no way to the broker", "network", f"commands do not arrive for {SILENT_S:g} s; connections stay open",
        partial(hold, ("there",)), env=OUTSIDE, permits=REFUSES | BREAKS | ENDS,
    ),
    Fault(
        "no way back from the broker", "network", f"commands arrive, answers do not, for {SILENT_S:g} s",
        partial(hold, ("back",)), env=OUTSIDE, permits=REFUSES | BREAKS | ENDS,
    ),
    Fault("connections dropped", "network", "all connections to the broker end at once", drop,
          env=OUTSIDE, permits=REFUSES),
    Fault(
        "one box cut off", "network", f"one of two text workers has no network for {CUT_S:g} s",
        partial(cut_one_box, BOTH), env=OUTSIDE,
    ),
    Fault(
        "one box hears nothing", "network", f"its commands arrive, the answers do not, for {CUT_S:g} s",
        partial(cut_one_box, ("back",)), env=OUTSIDE,
    ),
]  # fmt: skip
