"""Runs one fault on a system under load, and says what the audit has found."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count

from chaos import audit, facts
from chaos.audit import Violation
from chaos.faults import Fault
from chaos.ledger import Caller, Ledger, Outcome
from chaos.load import Load
from chaos.recovery import Recovery, check, measure, wait_until_back
from chaos.snapshots import mark_forgotten
from chaos.system import Skip, System, wait_for

#: Seconds of load before a fault, and after everything is back.
BEFORE_S, AFTER_S = 2.0, 1.0
#: Seconds that the load waits for queued work to be done again.
WORK_S = 30.0
#: Seconds in which what processes hold must be back to the base.
BASE_S = 20.0
_numbers = count(1)


@dataclass(slots=True)
class Result:
    """How one fault went."""

    fault: Fault
    violations: list[Violation] = field(default_factory=list)
    recovery: Recovery = field(default_factory=Recovery)
    outcomes: Counter[tuple[Caller, Outcome]] = field(default_factory=Counter)
    #: Tasks by state.
    states: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    #: Seconds until all accepted work had ended, and until nothing was left of it; both from the end of the load.
    ended_s: float = 0.0
    base_s: float = 0.0
    #: What the fault itself has measured.
    notes: list[str] = field(default_factory=list)
    #: Why it was not done; '' if it was.
    skipped: str = ""

    @property
    def unforeseen(self) -> list[Violation]:
        """Return the violations that the fault does not permit."""
        return [found for found in self.violations if not is_permitted(found, self.fault)]


def is_permitted(found: Violation, fault: Fault) -> bool:
    """Return whether a fault permits a violation."""
    return bool({found.kind, f"{found.kind} {found.subject}"} & fault.permits)


@dataclass(slots=True)
class Base:
    """What an idle system holds, before any fault."""

    resources: dict[str, facts.Resources]
    connections: int

    @classmethod
    def of(cls, system: System) -> Base:
        """Return what a system holds now."""
        return cls(facts.read_resources(system), facts.read_connections(system))


def new_ledger(system: System) -> Ledger:
    """Return the ledger of a new load."""
    system.ledger = Ledger(f"c{next(_numbers)}")
    return system.ledger


def warm_up(system: System) -> Base:
    """Have every part do its work for the first time; return what they hold then."""
    ledger = new_ledger(system)
    load = Load(system, ledger)
    load.start()
    time.sleep(BEFORE_S + AFTER_S)
    load.stop()
    audit.settle(system, ledger)
    return Base.of(system)


def run_fault(system: System, fault: Fault, base: Base) -> Result:
    """Do one fault under load, and audit."""
    began = time.monotonic()
    result = Result(fault)
    system.notes.clear()
    system.snapshot = None
    ledger = new_ledger(system)
    load = Load(system, ledger)
    usage = facts.read_usage(system)
    load.start()
    hurt_at = time.monotonic()
    restart_s: float | None = None
    try:
        time.sleep(BEFORE_S)
        hurt_at = system.harmed_at = time.monotonic()
        fault.apply(system)
        restart_s = wait_until_back(system)
        wait_for(lambda: measure(ledger, hurt_at, system.harmed_at, restart_s).work_s, WORK_S)
        time.sleep(AFTER_S)
    except Skip as reason:
        result.skipped = str(reason)
    except Exception as error:  # noqa: BLE001 (a fault that cannot be done, or a graycat that is not back, is a finding)
        result.violations.append(Violation("harness", fault.name, f"{type(error).__name__}: {error}"[-500:]))
    finally:
        hanging = load.stop()
    if not result.skipped:
        result.recovery = measure(ledger, hurt_at, system.harmed_at, restart_s)
        result.violations += check(result.recovery)
    stopped_at = time.monotonic()
    audit.settle(system, ledger, fault.permits)
    result.ended_s = time.monotonic() - stopped_at
    found = collect(system, fault, base, usage)
    result.base_s = time.monotonic() - stopped_at
    found.hanging, found.troubles = hanging, load.troubles
    result.violations += mark_forgotten(audit.check(found), found, system.snapshot)
    result.outcomes, result.notes = ledger.outcomes(), list(system.notes)
    result.states = Counter(task.state for task in found.tasks)
    result.seconds = time.monotonic() - began
    return result


def collect(system: System, fault: Fault, base: Base, usage: facts.Usage) -> facts.Facts:
    """Return the facts as soon as processes have let go of what they held."""

    def look() -> facts.Facts:
        found = facts.collect(system, system.ledger)
        found.base, found.base_connections = base.resources, base.connections
        found.usage = facts.read_usage(system).since(usage)
        return found

    def is_at_base() -> bool:
        kinds = {violation.kind for violation in audit.check(look()) if not is_permitted(violation, fault)}
        return not kinds & {"grown", "metrics", "left"}

    wait_for(is_at_base, BASE_S, 0.5)
    return look()
