"""Task records: what graycat knows of a task, and the only ways its state may change.

Every change is one Lua script, so it happens whole or not at all. A running task belongs to one attempt;
its number fences off older ones, which can neither publish nor finish.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from graycat import families
from graycat.broker.client import broker_errors
from graycat.broker.connections import Command
from graycat.broker.keys import HOME, events_key, failures_key, live_key, preview_key, record_key
from graycat.broker.protocol import Broker
from graycat.broker.scripts import Scripts
from graycat.errors import (
    EngineKilled,
    GraycatError,
    QueueFull,
    StaleAttempt,
    TaskExpired,
    TaskLost,
)
from graycat.queue import events, ids
from graycat.queue.errors import BrokerDataLost, IdempotencyConflict, KindUnknown
from graycat.queue.models import Attempt, ChunkBatch, NewTask, ReleaseReason, Verdict
from graycat.queue.reader import RecordReader
from graycat.queue.stored import OVERHEAD_BYTES, no_room, stored_limits
from graycat.settings import Settings

logger = logging.getLogger(__name__)

SCRIPTS = (
    *("create", "claim", "publish", "finish", "release", "restart", "cancel", "expire"),
    *("renew", "progress", "position", "subscribe", "repair_turns", "cancel_queued", "refuse"),
)
#: A task stays on its owner's list this long, which is longer than its record is kept.
LISTED_MS = 7 * 24 * 3600 * 1000
#: How many failures are listed, and for how long (as in conclude.lua).
MAX_FAILURES, FAILURES_MS = 100, 7 * 24 * 3600 * 1000
#: A task that has ended so many engines alone, or was there when so many died, is not tried again.
MAX_DEATHS_ALONE, MAX_DEATHS = 2, 6
#: A task whose kind was unknown to workers so many times has failed; it is tried once a lease, so for a minute. A
#: fleet in which one worker of four has been upgraded takes it before that, 97 times of 100.
MAX_REFUSALS = 12
#: A preview outlives its last refresh by this long.
PREVIEW_TTL_MS = 60_000


class TaskRecords(RecordReader):
    """The tasks' records and event streams in the broker."""

    def __init__(self, client: Broker, settings: Settings) -> None:
        super().__init__(client)
        self._settings = settings
        self._lease_ms = int(settings.lease_s * 1000)
        self._scripts = Scripts(client, Path(__file__).parent / "lua", SCRIPTS)
        #: Returns the trace (W3C ``traceparent``) that a new task belongs to; '' for none. ``web.middleware.tracing``
        #: replaces it.
        self.traceparent: Callable[[], str] = str

    def _run(self, name: str, task_id: str, *args: str | int | bytes, more_keys: Sequence[str] = ()) -> Any:
        with broker_errors():
            return self._scripts.run_commands([self._call(name, task_id, *args, more_keys=more_keys)])[0]

    def _call(self, name: str, task_id: str, *args: str | int | bytes, more_keys: Sequence[str] = ()) -> Command:
        keys = [record_key(task_id), events_key(task_id), live_key(ids.family_of(task_id).name), *more_keys]
        return self._scripts.command(name, keys, args)

    def are_scripts_loaded(self) -> bool:
        """Return whether the broker has the scripts of this version; home loads them. Raises BrokerUnavailable."""
        with broker_errors():
            return self._scripts.are_loaded()

    def note_lost(self, task_id: str) -> None:
        """List a task among the newest failures whose record the broker has lost. Raises BrokerUnavailable."""
        lost = BrokerDataLost
        values: dict[str, str | int] = {
            "task": task_id,
            "kind": "",
            "worker": "",
            "state": "lost",
            "status": lost.status,
            "type": lost.type,
        }
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            pipe.xadd(failures_key(HOME), values, maxlen=MAX_FAILURES)
            pipe.pexpire(failures_key(HOME), FAILURES_MS)
            pipe.execute()

    def create(self, task: NewTask, message: bytes) -> bool:
        """Write a task's record and put its Celery message on its queue; False if the id is taken.

        Raises QueueFull, StoredBytesExceeded, BrokerFull, BrokerUnavailable, IdempotencyConflict (one of its rivals
        exists): then neither was written.
        """
        if not ids.is_id_for(task.id, task.kind):
            # A worker whose broker user is limited to its family could not access it.
            raise ValueError(f"{task.id!r} is no id for a task of {task.kind}: make one with graycat.queue.ids")
        settings = self._settings
        queue_ttl_s = settings.queue_ttl_s if task.queue_ttl_s is None else task.queue_ttl_s
        exec_timeout_s = settings.exec_timeout_s if task.exec_timeout_s is None else task.exec_timeout_s
        keep_events_s = settings.events_ttl_s
        if task.shown is not None:
            # A caller that polls by the id finds the answer among the events.
            keep_events_s = settings.record_ttl_s

        fields: dict[str, str | int | bytes] = {
            "kind": task.kind,
            "mode": task.mode,
            "queue": task.queue,
            "channels": task.channel,
            "request_id": task.request_id,
            "queue_ttl_ms": int(queue_ttl_s * 1000),
            "exec_timeout_ms": int(exec_timeout_s * 1000),
            "keep_record_ms": int(settings.record_ttl_s * 1000),
            "keep_events_ms": int(keep_events_s * 1000),
            "body": task.body,
        }
        if task.shown is not None:
            # 1: for a retry; 0: not, as it is too large.
            fields["keep_body"] = int(len(task.body) <= settings.retry_body_bytes)
            fields.update(task.shown)
        # Most tasks have none of these; an empty one is not written.
        rare = {"metadata": task.metadata, "traceparent": self.traceparent(), "hook": _list_events(task.webhook)}
        for name, text in rare.items():
            if text:
                fields[name] = text

        lifetime_ms = int((queue_ttl_s + exec_timeout_s + settings.record_ttl_s) * 1000)
        arguments: list[str | int | bytes] = [lifetime_ms, int(queue_ttl_s * 1000), message, settings.queue_cap]
        arguments += [task.owner, _listed_ms(task), _charged_bytes(task), *stored_limits(settings)]
        arguments.append(task.webhook)
        for name, value in fields.items():
            arguments += [name, value]
        created = self._run("create", task.id, *arguments, more_keys=(task.queue, *map(record_key, task.rivals)))
        if created not in (0, 1):
            raise _refusal(created, task, settings)
        return bool(created)

    def claim(self, task_id: str, worker: str, excluded: Iterable[str] = ()) -> Attempt | str:
        """Start an attempt at a task, or return why not: gone, finished, leased, cancelled, expired, lost or yield.

        A batch task must ``yield`` while interactive tasks are parked: the next of them is about to enter its queue.
        It does not where that queue is ``excluded``: the worker does not take from it now.
        """
        expired, lost = _encode_failure(TaskExpired()), _encode_failure(TaskLost())
        limits = (self._lease_ms, self._settings.max_attempts)
        reply = self._run("claim", task_id, worker, *limits, expired, lost, *excluded)
        verdict = reply[0].decode()
        if verdict != "run":
            return str(verdict)
        number, kind, mode, body, timeout_ms, request_id, begun, started, owner, queue, waited_ms, deaths = reply[1:13]
        channels, kept = reply[13:]
        return Attempt(
            task_id=task_id,
            number=number,
            kind=kind.decode(),
            mode=mode.decode(),
            body=body,
            exec_timeout_s=int(timeout_ms) / 1000,
            request_id=request_id.decode(),
            resumed=bool(begun),
            started_id=started.decode(),
            owner=owner.decode(),
            queue=queue.decode(),
            waited_s=waited_ms / 1000,
            deaths=deaths,
            channels=tuple(channels.decode().split()),
            kept=bool(kept),
        )

    def publish(self, attempt: Attempt, number: int, chunks: Sequence[bytes]) -> bool:
        """Append chunks of an attempt's answer, the first one its ``number``-th; return whether it is asked to stop.

        Raises StaleAttempt, BrokerUnavailable.
        """
        verdict = self.publish_all([ChunkBatch(attempt, number, chunks)])[0]
        if verdict is Verdict.STALE:
            raise StaleAttempt
        return verdict is not Verdict.GO_ON

    def publish_all(self, batches: Sequence[ChunkBatch], behind_written: Container[int] = ()) -> list[Verdict]:
        """Append chunks of several attempts in one round trip; return what each attempt must do.

        ``behind_written``: the indexes of batches whose attempts' earlier chunks were written, as replies have said.
        Raises BrokerUnavailable.
        """
        commands = []
        for index, batch in enumerate(batches):
            commands.append(self.publish_command(batch, is_behind_written=index in behind_written))
        with broker_errors():
            replies = self._scripts.run_commands(commands)
        return [Verdict(reply.decode()) for reply in replies]

    def publish_command(self, batch: ChunkBatch, *, is_behind_written: bool = False) -> Command:
        """Return the command that appends chunks; its reply is a Verdict, or an error (a script that is not loaded)."""
        keys, fence, base_number = batch.attempt.address
        place = 0
        if batch.number == 1:
            place = 1
        elif is_behind_written:
            place = 2
        return self._scripts.command("publish", keys, (*fence, base_number + batch.number, place, *batch.chunks))

    def report_progress(self, attempt: Attempt, data: bytes) -> Verdict:
        """Write how far an attempt is (JSON); return what it must do. Raises BrokerUnavailable."""
        return Verdict(self._run("progress", attempt.task_id, attempt.number, data).decode())

    def save_preview(self, task_id: str, image: bytes) -> None:
        """Store the newest preview of a task that renders; it replaces the one before."""
        with broker_errors():
            self._client.set(preview_key(task_id), image, px=PREVIEW_TTL_MS)

    def renew(self, task_id: str, attempt: int) -> Verdict:
        """Renew a running attempt's lease; return what it must do. Raises BrokerUnavailable."""
        return Verdict(self._run("renew", task_id, attempt, self._lease_ms).decode())

    def succeed(self, attempt: Attempt, status: int, body: bytes) -> bool:
        """End an attempt with the engine's answer; False if another attempt owns the task or it has ended."""
        return self._finish(attempt, "succeeded", status, events.RESULT, events.answer(status, body))

    def fail(self, attempt: Attempt, error: GraycatError) -> bool:
        """End an attempt with an error; False if another attempt owns the task or it has ended."""
        return self._finish(attempt, "failed", error.status, events.ERROR, _encode_failure(error))

    def finish_cancelled(self, attempt: Attempt, partial: bytes = b"") -> bool:
        """End an attempt that was asked to stop; False if another attempt owns the task or it has ended.

        ``partial`` is an answer of unfinished work, if the caller asked for it.
        """
        data = b""
        if partial:
            data = events.answer(200, partial)
        return self._finish(attempt, "cancelled", 499, events.CANCELLED, data)

    def _finish(self, attempt: Attempt, state: str, status: int, kind: str, data: bytes) -> bool:
        arguments = (attempt.number, state, status, kind, data, *attempt.made.amounts)
        return bool(self._run("finish", attempt.task_id, *arguments) == 1)

    def release(self, attempt: Attempt, reason: ReleaseReason = ReleaseReason.CHARGED) -> bool:
        """Hand a running attempt back to the queue; False if the task is not ours any more.

        Raises EngineKilled if the task has ended too many engines: then it is still ours.
        """
        arguments = (attempt.number, reason.value, MAX_DEATHS_ALONE, MAX_DEATHS, *attempt.made.amounts)
        released = self._run("release", attempt.task_id, *arguments)
        if released == 2:
            raise EngineKilled
        return bool(released == 1)

    def restart(self, attempt: Attempt) -> Attempt:
        """Begin the answer anew; return the attempt that publishes it. Chunks of earlier attempts are removed.

        Only for a task that is looked at by its id (``Attempt.kept``): who follows its events is told. Raises
        StaleAttempt.
        """
        restarted_id = self._run("restart", attempt.task_id, attempt.number, attempt.started_id).decode()
        if not restarted_id:
            raise StaleAttempt
        return replace(attempt, started_id=restarted_id, resumed=False)

    def cancel(self, task_id: str, how: Verdict = Verdict.CANCEL) -> tuple[str, str]:
        """Ask a task to stop; return its state now and the worker that runs it ('' if it does not run)."""
        reply = self._run("cancel", task_id, how.value)
        # A box may have written anything as its name.
        return reply[0].decode(errors="replace"), reply[1].decode(errors="replace")

    def cancel_queued(self, task_id: str) -> bool:
        """Cancel a task that is queued; False if it is not: a running task goes on."""
        return bool(self._run("cancel_queued", task_id) == 1)

    def refuse(self, task_id: str, kind: str) -> bool:
        """Note that a worker did not know a task's kind; return whether the task has failed by that.

        ``kind``: the name in the message. If it is not that of the record, another program has sent the message.
        """
        failure = _encode_failure(KindUnknown())
        return bool(self._run("refuse", task_id, kind, MAX_REFUSALS, failure) == 1)

    def expire(self, task_id: str) -> bool:
        """End a task that is past its queue deadline and never started; False if it is not."""
        return bool(self._run("expire", task_id, _encode_failure(TaskExpired())) == 1)

    def queue_position(self, task_id: str) -> int:
        """Return a queued task's 1-based position in its own queue under round-robin; 0 if it is not queued."""
        return self.count_ahead(task_id, ())[0]

    def count_ahead(self, task_id: str, queues: Sequence[str]) -> tuple[int, dict[str, int]]:
        """Return the same position, and how many tasks wait for each of some other queues, at the same moment.

        At most 64 queues are counted. Raises BrokerUnavailable.
        """
        position, *waiting = map(int, self._run("position", task_id, *queues))
        return position, dict(zip(queues, waiting, strict=False))

    def repair_turns(self, queues: Iterable[str]) -> int:
        """Pass on each turn whose task is gone; return how many parked tasks entered one of the queues.

        Counts the parked tasks anew, too.
        """
        by_family: dict[str, list[str]] = {}
        for queue in queues:
            family = families.find_by_kind(queue)
            if family is not None:
                by_family.setdefault(family.name, []).append(queue)
        entered = 0
        for names in by_family.values():
            # It is about no task, but the broker checks the keys of a script before it runs.
            number, unusable = self._run("repair_turns", ids.unused_task_id(names[0]), *names)
            entered += int(number)
            if unusable:
                logger.error("turns that cannot be used: keys of another type", extra={"count": unusable})
        return entered

    def subscribe(self, task_id: str, channel: str) -> str:
        """Have a task's events pushed to ``channel`` too; return the task's state, '' if there is no such task."""
        return str(self._run("subscribe", task_id, channel).decode(errors="replace"))


def _list_events(webhook: str) -> str:
    """Return the events that a webhook asks for: all that its record, and so a worker, has of it. '' without one."""
    if not webhook:
        return ""
    return " ".join(json.loads(webhook)["events"])


def _refusal(reply: Any, task: NewTask, settings: Settings) -> GraycatError:
    """Return the error for a task that create.lua has refused."""
    if reply == -1:
        return QueueFull(task.queue)
    if reply == -2:
        return IdempotencyConflict()
    return no_room(bytes(reply), task.owner, settings)


def _charged_bytes(task: NewTask) -> int:
    """Return what a task is charged with. A batch is charged with its items when it is submitted."""
    if not task.counted:
        return 0
    return len(task.body) + OVERHEAD_BYTES


def _listed_ms(task: NewTask) -> int:
    """Return how long a task stays in its owner's list; -1 if it does not even count as unfinished. See create.lua."""
    if not task.counted:
        return -1
    if task.shown is None:
        return 0
    return LISTED_MS


def _encode_failure(error: GraycatError) -> bytes:
    return events.answer(error.status, error.encoded())
