"""Schedules in the broker: what there are, what of them waits for a batch, and how they fired."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graycat.batches.records import BatchRecords
from graycat.broker.client import broker_errors, now_ms
from graycat.broker.keys import SCHEDULES, schedule_keys
from graycat.broker.protocol import Broker
from graycat.broker.scripts import load
from graycat.schedules.definition import Schedule
from graycat.schedules.due import Due, coming
from graycat.schedules.errors import ScheduleExists, ScheduleNotFound, TooManySchedules
from graycat.settings import Settings

_LUA = Path(__file__).parent / "lua"

#: Where a schedule comes from: REST, or the operator's file.
API, FILE = "api", "file"
#: What became of a nominal time: a batch; none, as the last batch was not over, or nobody was there in time; or none,
#: as the batch was refused.
FIRED, SKIPPED, MISSED, REFUSED = "fired", "skipped", "missed", "refused"
#: Fires that are remembered, and schedules of one API token.
FIRES_KEPT, MOST_OWNED = 50, 200
#: Coming times in a schedule's view.
SHOWN_NEXT = 1

Row = dict[str, Any]
Rows = list[Row]
Keys = list[str]
States = list["State"]


@dataclass(slots=True)
class State:
    """A schedule, and how far it is. ``mark``: where the next look begins; ``batch``: the last one's id."""

    schedule: Schedule
    source: str
    paused: bool
    mark: int
    batch: str = ""
    waiting: list[int] = field(default_factory=list)


class ScheduleRecords:
    """The schedules in the broker. Every method raises BrokerUnavailable; those that take a name, ScheduleNotFound."""

    def __init__(self, client: Broker, settings: Settings) -> None:
        self._client = client
        self._batches = BatchRecords(client, settings)
        names = ("put", "advance", "settle")
        self._scripts = {name: client.register_script(load(_LUA / f"{name}.lua")) for name in names}

    def put(self, schedule: Schedule, *, replace: bool = False, source: str = API) -> str:
        """Keep a schedule; return what it is now: ``new``, ``changed``, or the ``same`` as before.

        Raises ScheduleExists where another one has its name, unless it is to be replaced; TooManySchedules.
        """
        record, waiting, _ = schedule_keys(schedule.id)
        times = f"{schedule.cron} {schedule.timezone}"
        arguments = (schedule.id, schedule.encoded(), times, source, int(replace), MOST_OWNED, f"{schedule.owner}:")
        done = str(self._run("put", [record, SCHEDULES, waiting], arguments).decode())
        if done == "many":
            raise TooManySchedules(MOST_OWNED)
        if done == "file":
            raise ScheduleExists(f"the schedule {schedule.name!r} is one of the server's file: it is changed there")
        if done == "taken":
            raise ScheduleExists(f"there is another schedule {schedule.name!r}: replace it, or choose another name")
        return done

    def get(self, owner: str, name: str) -> Row:
        """Return a schedule as its owner sees it, with its last fires."""
        return self._view(self._state(owner, name)) | {"fires": self.fires(owner, name)}

    def definition(self, owner: str, name: str) -> Schedule:
        """Return a schedule."""
        return self._state(owner, name).schedule

    def list(self, owner: str | None = None) -> Rows:
        """Return an owner's schedules by their names; None: everybody's."""
        return [self._view(state) for state in self.states(owner)]

    def states(self, owner: str | None = None) -> States:
        """Return schedules with how far they are."""
        with broker_errors():
            ids = sorted(name.decode() for name in self._client.smembers(SCHEDULES))
        wanted = [name for name in ids if owner is None or name.rpartition(":")[0] == owner]
        return [state for state in self._read(wanted) if state is not None]

    def fires(self, owner: str, name: str) -> Rows:
        """Return how a schedule's last times went, the newest first."""
        key = schedule_keys(f"{owner}:{name}")[2]
        with broker_errors():
            return [json.loads(text) for text in self._client.lrange(key, 0, FIRES_KEPT - 1)]

    def next(self, owner: str, name: str, count: int) -> Rows:
        """Return a schedule's coming times, in its zone; ``starts`` is when its jitter lets it fire."""
        timing = self._state(owner, name).schedule.timing()
        zone = timing.cron
        return [
            {"time": zone.at(at).isoformat(), "starts": zone.at(at + timing.delay_s(at)).isoformat()}
            for at in coming(zone, int(time.time()), count)
        ]

    def remove(self, owner: str, name: str, source: str = API) -> None:
        """Forget a schedule; its batches go on. Raises ScheduleExists where it is one of the file's."""
        state = self._state(owner, name)
        if state.source != source:
            raise ScheduleExists(f"the schedule {name!r} is one of the server's file: take it out there")
        with broker_errors(), self._client.pipeline() as pipe:
            pipe.srem(SCHEDULES, state.schedule.id)
            pipe.delete(*schedule_keys(state.schedule.id))
            pipe.execute()

    def pause(self, owner: str, name: str) -> Row:
        """Have a schedule fire nothing until it is resumed."""
        return self._set(owner, name, paused=1)

    def resume(self, owner: str, name: str) -> Row:
        """Have a paused schedule fire again; what came meanwhile is neither fired nor missed."""
        paused = self._state(owner, name).paused
        return self._set(owner, name, paused="", **({"mark": self.now()} if paused else {}))

    def run_now(self, owner: str, name: str, run: str) -> str:
        """Submit a schedule's batch now, whatever its times and its overlap say; return the batch's id.

        The same ``run`` again is the same batch. Raises InvalidBatch, TooManyBatches.
        """
        schedule = self._state(owner, name).schedule
        batch_id, _ = self._batches.submit(schedule.document(), owner, f"schedule/{name}/{run}", name)
        self._set(owner, name, batch=batch_id)
        return batch_id

    def now(self) -> int:
        """Return the broker's time, in seconds: one clock for all that look."""
        return now_ms(self._client) // 1000

    def looked(self, state: State, found: Due) -> bool:
        """Note what a look has found; False where another look was first, or the schedule has gone or changed."""
        missed = ""
        if found.passed_over:
            first, last = found.passed_over
            missed = json.dumps({"time": first, "until": last, "outcome": MISSED, "at": self.now()})
        arguments = (state.mark, found.mark, missed, FIRES_KEPT, *found.fire)
        return bool(self._run("advance", schedule_keys(state.schedule.id), arguments))

    def settled(self, state: State, at: int, outcome: str, batch_id: str = "", reason: str = "") -> bool:
        """Note what became of a waiting time; False where another has done so, or the schedule has gone."""
        told = {"time": at, "outcome": outcome, "batch": batch_id, "reason": reason}
        text = json.dumps({name: value for name, value in told.items() if value != ""} | {"at": self.now()})
        arguments = (at, batch_id, text, FIRES_KEPT)
        return bool(self._run("settle", schedule_keys(state.schedule.id), arguments))

    def _set(self, owner: str, name: str, **fields: str | int) -> Row:
        state = self._state(owner, name)
        with broker_errors():
            self._client.hset(schedule_keys(state.schedule.id)[0], mapping=fields)
        return self.get(owner, name)

    def _state(self, owner: str, name: str) -> State:
        state = self._read([f"{owner}:{name}"])[0]
        if state is None:
            raise ScheduleNotFound
        return state

    def _read(self, ids: Sequence[str]) -> Sequence[State | None]:
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            for schedule_id in ids:
                record, waiting, _ = schedule_keys(schedule_id)
                pipe.hmget(record, ("definition", "source", "paused", "mark", "batch"))
                pipe.zrange(waiting, 0, -1)
            rows = pipe.execute()
        return [_state_of(*rows[place : place + 2]) for place in range(0, len(rows), 2)]

    def _view(self, state: State) -> Row:
        view = state.schedule.shown() | {"source": state.source, "paused": state.paused, "last_batch": state.batch}
        cron = state.schedule.timing().cron
        times = [] if state.paused else coming(cron, int(time.time()), SHOWN_NEXT)
        return view | {"waiting": len(state.waiting), "next": cron.at(times[0]).isoformat() if times else None}

    def _run(self, name: str, keys: Keys, arguments: Sequence[Any]) -> Any:
        with broker_errors():
            return self._scripts[name](keys=keys, args=arguments)


def _state_of(fields: Sequence[bytes | None], waiting: Sequence[bytes]) -> State | None:
    definition, source, paused, mark, batch = ((value or b"").decode() for value in fields)
    if not definition:
        return None
    times = [int(text) for text in waiting]
    return State(Schedule.from_record(definition), source, bool(paused), int(mark), batch, times)
