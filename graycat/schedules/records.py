"""Schedules in the broker: their definitions, their times that wait for a batch, and the outcomes of earlier times."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graycat.batches.records import BatchRecords
from graycat.bounds.stored import parse_json
from graycat.broker.client import broker_errors, now_ms
from graycat.broker.keys import SCHEDULES, schedule_keys
from graycat.broker.protocol import Broker
from graycat.broker.scripts import Scripts
from graycat.errors import BrokerUnavailable
from graycat.loops.unexpected import guarded
from graycat.schedules.definition import Schedule
from graycat.schedules.due import Due, next_times
from graycat.schedules.errors import ScheduleExists, ScheduleNotFound, TooManySchedules
from graycat.settings import Settings

#: How a schedule was created: over REST, or by the operator's file.
SOURCE_API, SOURCE_FILE = "api", "file"
#: Outcomes of a nominal time: its batch was submitted; it was skipped, because the last batch had not ended; it passed
#: while no scheduler was running; its batch was refused.
FIRED, SKIPPED, MISSED, REFUSED = "fired", "skipped", "missed", "refused"
#: How many outcomes of a schedule are stored.
MAX_OUTCOMES = 50
#: How many schedules one API token may have.
MAX_OWNED = 200

Row = dict[str, Any]
Rows = list[Row]


@dataclass(slots=True)
class ScheduleState:
    """A schedule and its progress.

    ``handled_until``: the nominal time after which the next step begins. ``waiting``: nominal times whose batches are
    not submitted yet.
    """

    schedule: Schedule
    source: str
    paused: bool
    handled_until: int
    last_batch_id: str = ""
    waiting: list[int] = field(default_factory=list)


States = list[ScheduleState]


class ScheduleRecords:
    """The schedules in the broker. Every method raises BrokerUnavailable; those that take a name, ScheduleNotFound."""

    def __init__(self, client: Broker, settings: Settings) -> None:
        self._client = client
        self._batches = BatchRecords(client, settings)
        self._scripts = Scripts(client, Path(__file__).parent / "lua", ("put", "advance", "settle"))

    def put(self, schedule: Schedule, *, replace: bool = False, source: str = SOURCE_API) -> str:
        """Store a schedule; return the outcome: ``new``, ``changed``, or ``same`` if it was stored before.

        Raises TooManySchedules, and ScheduleExists if another one has its name and is not to be replaced.
        """
        record, waiting, _ = schedule_keys(schedule.id)
        times = f"{schedule.cron} {schedule.timezone}"
        arguments = (schedule.id, schedule.to_json(), times, source, int(replace), MAX_OWNED, f"{schedule.owner}:")
        outcome = str(self._run("put", [record, SCHEDULES, waiting], arguments).decode())
        if outcome == "many":
            raise TooManySchedules(MAX_OWNED)
        if outcome == "file":
            raise ScheduleExists(f"the schedule {schedule.name!r} is in the server's schedules file: change it there")
        if outcome == "taken":
            raise ScheduleExists(f"there is another schedule {schedule.name!r}: replace it, or choose another name")
        return outcome

    def get(self, owner: str, name: str) -> Row:
        """Return a schedule as its owner sees it, with its last outcomes."""
        return self._view(self._load_state(owner, name)) | {"fires": self.list_outcomes(owner, name)}

    def load_definition(self, owner: str, name: str) -> Schedule:
        """Return a schedule's definition."""
        return self._load_state(owner, name).schedule

    def list(self, owner: str | None = None) -> Rows:
        """Return an owner's schedules as they see them, ordered by name; None stands for all owners.

        Those that are damaged are left out.
        """
        views = []
        for state in self.load_states(owner):
            with guarded("schedules"):
                views.append(self._view(state))
        return views

    def load_states(self, owner: str | None = None) -> States:
        """Return an owner's schedules and their progress; None stands for all owners. Damaged ones are left out."""
        with broker_errors():
            ids = sorted(name.decode(errors="backslashreplace") for name in self._client.smembers(SCHEDULES))
        if owner is not None:
            ids = [name for name in ids if name.rpartition(":")[0] == owner]
        states = []
        for schedule_id, row in zip(ids, self._load_rows(ids), strict=True):
            with guarded("schedules", let_through=(BrokerUnavailable,)):
                state = _parse_state(*row)
                if state is not None:
                    if state.schedule.id != schedule_id:
                        raise ValueError("the record is that of another schedule")
                    states.append(state)
        return states

    def list_outcomes(self, owner: str, name: str) -> Rows:
        """Return the outcomes of a schedule's last times, newest first."""
        key = schedule_keys(f"{owner}:{name}")[2]
        with broker_errors():
            texts = self._client.lrange(key, 0, MAX_OUTCOMES - 1)
        rows = []
        for text in texts:
            with guarded("schedules"):
                row = parse_json(text)
                if not isinstance(row, dict):
                    raise TypeError("an outcome is an object")
                rows.append(row)
        return rows

    def list_next(self, owner: str, name: str, count: int) -> Rows:
        """Return a schedule's next times in its time zone; ``starts`` is when its jitter lets it fire."""
        timing = self._load_state(owner, name).schedule.timing()
        cron = timing.cron
        rows = []
        for at in next_times(cron, int(time.time()), count):
            starts = cron.at(at + timing.delay_s(at))
            rows.append({"time": cron.at(at).isoformat(), "starts": starts.isoformat()})
        return rows

    def remove(self, owner: str, name: str, source: str = SOURCE_API) -> None:
        """Delete a schedule; its batches go on. Raises ScheduleExists if it was created by the server's file."""
        state = self._load_state(owner, name)
        if state.source != source:
            raise ScheduleExists(f"the schedule {name!r} is in the server's schedules file: remove it there")
        with broker_errors(), self._client.pipeline() as pipe:
            pipe.srem(SCHEDULES, state.schedule.id)
            pipe.delete(*schedule_keys(state.schedule.id))
            pipe.execute()

    def pause(self, owner: str, name: str) -> Row:
        """Pause a schedule: it does not fire until it is resumed."""
        return self._update(owner, name, paused=1)

    def resume(self, owner: str, name: str) -> Row:
        """Resume a paused schedule. The times that have passed meanwhile are neither fired nor missed."""
        fields: dict[str, str | int] = {"paused": ""}
        if self._load_state(owner, name).paused:
            fields["mark"] = self._now_s()
        return self._update(owner, name, **fields)

    def run_now(self, owner: str, name: str, run: str) -> str:
        """Submit a schedule's batch now, regardless of its times and its overlap policy; return the batch's id.

        The same ``run`` means the same batch. Raises InvalidBatch, TooManyBatches.
        """
        schedule = self._load_state(owner, name).schedule
        batch_id, _ = self._batches.submit(schedule.document(), owner, f"schedule/{name}/{run}", name)
        self._update(owner, name, batch=batch_id)
        return batch_id

    def advance(self, state: ScheduleState, due: Due) -> bool:
        """Store what is due, so that it waits.

        Return False if another process has done so, or if the schedule was changed or deleted.
        """
        missed = ""
        if due.passed_over:
            first, last = due.passed_over
            missed = json.dumps({"time": first, "until": last, "outcome": MISSED, "at": self._now_s()})
        arguments = (state.handled_until, due.handled_until, missed, MAX_OUTCOMES, *due.fire)
        return bool(self._run("advance", schedule_keys(state.schedule.id), arguments))

    def settle(self, state: ScheduleState, time: int, outcome: str, batch_id: str = "", reason: str = "") -> bool:
        """Store the outcome of a waiting time. Return False if another process has done so, or there is no schedule."""
        row: Row = {"time": time, "outcome": outcome}
        if batch_id:
            row["batch"] = batch_id
        if reason:
            row["reason"] = reason
        row["at"] = self._now_s()
        arguments = (time, batch_id, json.dumps(row), MAX_OUTCOMES)
        return bool(self._run("settle", schedule_keys(state.schedule.id), arguments))

    def _now_s(self) -> int:
        return now_ms(self._client) // 1000

    def _update(self, owner: str, name: str, **fields: str | int) -> Row:
        state = self._load_state(owner, name)
        with broker_errors():
            self._client.hset(schedule_keys(state.schedule.id)[0], mapping=fields)
        return self.get(owner, name)

    def _load_state(self, owner: str, name: str) -> ScheduleState:
        (row,) = self._load_rows([f"{owner}:{name}"])
        state = _parse_state(*row)
        if state is None:
            raise ScheduleNotFound
        return state

    def _load_rows(self, ids: Sequence[str]) -> Sequence[tuple[Any, Any]]:
        """Return for each schedule the fields of its record, and its waiting times; a reply may be an error."""
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            for schedule_id in ids:
                record, waiting, _ = schedule_keys(schedule_id)
                pipe.hmget(record, ("definition", "source", "paused", "mark", "batch"))
                pipe.zrange(waiting, 0, -1)
            replies = pipe.execute(raise_on_error=False)
        return list(zip(replies[::2], replies[1::2], strict=True))

    def _view(self, state: ScheduleState) -> Row:
        view = state.schedule.to_view()
        view["source"] = state.source
        view["paused"] = state.paused
        view["last_batch"] = state.last_batch_id
        view["waiting"] = len(state.waiting)
        view["next"] = None
        if not state.paused:
            cron = state.schedule.timing().cron
            for at in next_times(cron, int(time.time()), 1):
                view["next"] = cron.at(at).isoformat()
        return view

    def _run(self, name: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        with broker_errors():
            return self._scripts.run(name, keys, arguments)


def _parse_state(fields: Any, waiting: Any) -> ScheduleState | None:
    """Return the state of a schedule from the broker's two replies; None if there is no such schedule.

    Raises an error of any type if it is damaged, BrokerUnavailable if a reply says so.
    """
    with broker_errors():
        for reply in (fields, waiting):
            if isinstance(reply, Exception):
                raise reply

    definition, source, paused, handled_until, last_batch_id = fields
    if definition is None:
        return None
    return ScheduleState(
        schedule=Schedule.from_json(definition),
        source=(source or b"").decode(),
        paused=bool(paused),
        handled_until=int(handled_until or 0),
        last_batch_id=(last_batch_id or b"").decode(),
        waiting=list(map(int, waiting)),
    )
