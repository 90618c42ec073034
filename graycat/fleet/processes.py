"""The processes of each machine under ``graycat up``: reported by its supervisor, shown to operators."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from graycat.bounds.stored import parse_json
from graycat.broker.client import broker_errors, now_ms
from graycat.broker.keys import PROCESSES
from graycat.broker.protocol import Broker

#: A machine that has not reported for this long is left out; its supervisor has ended or lost the broker.
SILENT_AFTER_MS = 15_000
#: A machine that has not reported for this long is forgotten.
FORGET_AFTER_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One supervised process. ``state``: running, backing off, crash loop, drained or stopped."""

    name: str
    state: str
    pid: int | None = None
    #: How often it was started again, how it ended last ('' if never), and the seconds until it is started again.
    restarts: int = 0
    last_end: str = ""
    retry_in_s: float = 0.0

    @classmethod
    def from_json(cls, values: Any) -> ProcessStatus | None:
        """Return the status in a row of a report; None if it is not one. Fields of a newer version are ignored."""
        if not isinstance(values, dict):
            return None
        known: dict[str, Any] = {"name": "", "state": ""}
        for field in fields(cls):
            if field.name in values:
                known[field.name] = values[field.name]
        status = cls(**known)
        if not (isinstance(status.name, str) and status.name and isinstance(status.state, str) and status.state):
            return None
        if not isinstance(status.restarts, int) or not isinstance(status.last_end, str):
            return None
        return status


class ProcessReports:
    """The supervisors' reports in the broker."""

    def __init__(self, client: Broker) -> None:
        self._client = client

    def write(self, machine: str, processes: Sequence[ProcessStatus]) -> None:
        """Write a machine's report. Raises BrokerUnavailable."""
        report = {"at_ms": now_ms(self._client), "processes": list(map(asdict, processes))}
        with broker_errors():
            self._client.hset(PROCESSES, machine, json.dumps(report))

    def remove(self, machine: str) -> None:
        """Forget a machine whose supervisor stops. Raises BrokerUnavailable."""
        with broker_errors():
            self._client.hdel(PROCESSES, machine)

    def read(self) -> dict[str, list[ProcessStatus]]:
        """Return the processes of each machine that has reported lately. Raises BrokerUnavailable."""
        now = now_ms(self._client)
        with broker_errors():
            rows = self._client.hgetall(PROCESSES)
        by_machine: dict[str, list[ProcessStatus]] = {}
        forgotten = []
        for machine, row in rows.items():
            at_ms, processes = _parse_report(row)
            if now - at_ms <= SILENT_AFTER_MS:
                by_machine[machine.decode(errors="replace")] = processes
            elif now - at_ms > FORGET_AFTER_MS:
                forgotten.append(machine)
        if forgotten:
            with broker_errors():
                self._client.hdel(PROCESSES, *forgotten)
        return by_machine


def _parse_report(row: bytes) -> tuple[int, list[ProcessStatus]]:
    """Return when a report was written, and the processes in it; (0, []) if it cannot be read."""
    try:
        report = parse_json(row)
        at_ms = int(report["at_ms"])
        rows = list(report["processes"])
    except (ValueError, TypeError, KeyError, OverflowError):
        return 0, []
    statuses = []
    for values in rows:
        status = ProcessStatus.from_json(values)
        if status is not None:
            statuses.append(status)
    return at_ms, statuses
