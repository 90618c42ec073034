"""Counts what ended tasks have used, once a task, for the owner who was admitted with it.

``queue/lua/create.lua`` lists each accepted task with its owner. The control worker looks at the listed tasks and
counts those that have ended. Their records say what was used. Workers on rented boxes write these, so they may tell
wrong amounts about tasks of their own family, within bounds; whose a task is, and that it counts once, they cannot
change.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import redis

from graycat.auth.tokens import PLAYER_MARK
from graycat.broker.client import broker_errors, is_unusable_key, now_ms
from graycat.broker.connections import Command
from graycat.broker.keys import UNCOUNTED, record_key, usage_key
from graycat.broker.protocol import Broker
from graycat.broker.scripts import Scripts
from graycat.broker.wrong_types import move_aside, named_key
from graycat.metrics import usage
from graycat.queue import ids
from graycat.queue.models import TERMINAL_STATES
from graycat.settings import Settings
from graycat.usage.amounts import NAMES, Amounts, Row, day_of

#: Listed tasks that one step looks at. Those that have not ended are passed over, so that each gets its turn.
MAX_CHECKED = 1000
#: The most that one task may have used; more is not believed.
MAX_TOKENS, MAX_IMAGES = 10_000_000, 10_000
_FIELDS = ("state", "finished_ms", "engine_ms", "prompt_tokens", "completion_tokens", "images")


class UsageCounter:
    """Counts ended tasks. Any number of counters may run: each task is counted by one of them."""

    def __init__(self, client: Broker, settings: Settings) -> None:
        self._client = client
        self._days_kept = settings.usage_days
        self._scripts = Scripts(client, Path(__file__).parent / "lua", ("count",))
        #: How many of the listed tasks the last steps have passed over.
        self._passed = 0

    def step(self) -> int:
        """Count the ended among the next listed tasks; return how many. Raises BrokerUnavailable."""
        with broker_errors():
            listed = self._read_listed()
        now = now_ms(self._client)
        rows: list[Row] = []
        commands: list[Command] = []
        for (member, submitted_ms), record in zip(listed, self._read_records(listed), strict=True):
            row = _count(member, int(submitted_ms), record, now)
            if row is not None:
                rows.append(row)
                commands.append(self._command(member, row, now))
        counted = self._run(rows, commands)
        self._passed += len(listed) - counted
        if len(listed) < MAX_CHECKED:
            self._passed = 0
        return counted

    def _read_listed(self) -> list[tuple[bytes, float]]:
        last = self._passed + MAX_CHECKED - 1
        try:
            return self._client.zrange(UNCOUNTED, self._passed, last, withscores=True)
        except redis.ResponseError as error:
            if is_unusable_key(error):
                move_aside(self._client, {UNCOUNTED: "zset"})
            return []

    def _read_records(self, listed: Sequence[tuple[bytes, float]]) -> list[list[bytes | None]]:
        """Return what the tasks' records say; nothing of one that is gone, or is another program's key."""
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            for member, _ in listed:
                pipe.hmget(record_key(_split(member)[0]), _FIELDS)
            replies = pipe.execute(raise_on_error=False)
        records: list[list[bytes | None]] = []
        for reply in replies:
            if is_unusable_key(reply):
                records.append([None] * len(_FIELDS))
            else:
                records.append(reply)
        return records

    def _command(self, member: bytes, row: Row, now: int) -> Command:
        ends = datetime.combine(row.day + timedelta(days=self._days_kept + 1), time(), UTC)
        kept_ms = max(int(ends.timestamp() * 1000) - now, 1000)
        arguments: list[str | int | bytes] = [member, kept_ms]
        for name in NAMES:
            amount = getattr(row.amounts, name)
            if amount:
                arguments += [row.field(name), amount]
        return self._scripts.command("count", (UNCOUNTED, usage_key(row.day.isoformat())), arguments)

    def _run(self, rows: Sequence[Row], commands: Sequence[Command]) -> int:
        """Run the commands that count the rows; return how many tasks were counted by this."""
        if not commands:
            return 0
        try:
            with broker_errors():
                replies = self._scripts.run_commands(commands)
        except redis.ResponseError as error:
            # Another program has written over a key. Nothing is lost: the next step counts again what was not counted.
            if not move_aside(self._client, named_key(error)):
                raise
            return 0
        counted = 0
        for row, reply in zip(rows, replies, strict=True):
            if reply:
                counted += 1
                usage.count(row.owner, row.family, **row.amounts.measured)
        return counted


def _split(member: bytes) -> tuple[str, str]:
    """Return the id and the owner of a listed task."""
    task_id, _, owner = member.decode(errors="replace").partition(" ")
    return task_id, owner


def _count(member: bytes, submitted_ms: int, record: Sequence[bytes | None], now: int) -> Row | None:
    """Return what a listed task adds to the usage; None if it has not ended."""
    state, finished_ms, engine_ms, prompt_tokens, completion_tokens, images = record
    name = ""
    if state is not None:
        name = state.decode(errors="replace")
        if name not in TERMINAL_STATES:
            return None
    task_id, owner = _split(member)
    amounts = Amounts(
        requests=1,
        # The record of a task that nobody ended is gone: lost.
        failed=int(name in ("", "failed", "expired")),
        cancelled=int(name == "cancelled"),
        prompt_tokens=_read(prompt_tokens, MAX_TOKENS),
        completion_tokens=_read(completion_tokens, MAX_TOKENS),
        images=_read(images, MAX_IMAGES),
        # Its attempts ran one after the other.
        engine_ms=_read(engine_ms, max(now - submitted_ms, 0)),
    )
    ended_ms = min(max(_read(finished_ms, now), submitted_ms), max(now, submitted_ms))
    # A player counts for the API token that made its own.
    token = owner.partition(PLAYER_MARK)[0]
    return Row(token, day_of(ended_ms), ids.family_of(task_id).name, amounts)


def _read(value: bytes | None, most: int) -> int:
    """Return an amount of a record: a whole number from 0 to ``most``."""
    if value is None or not value.isdigit() or len(value) > 15:
        return 0
    return min(int(value), most)
