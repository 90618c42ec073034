"""The stream relay: one thread passes the tokens of all streams of a worker from the engine to the broker.

An engine decodes its slots together, so the tokens of several streams arrive together, and the relay publishes them
together. With a thread for each stream, each would wake, wait for the interpreter and send a command of its own
(docs/decisions/0006).
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from graycat.bounds.stored import parse_json
from graycat.engines.client import Call, StopReason
from graycat.engines.sse import EventStream
from graycat.errors import BrokerUnavailable, EngineError, EngineProtocolError, GraycatError, StaleAttempt
from graycat.loops.threads import GuardedThread
from graycat.loops.unexpected import note
from graycat.queue.models import Attempt, ChunkBatch, Verdict
from graycat.worker.publisher import BatchVerdicts, Publisher

logger = logging.getLogger(__name__)

#: The beginning of an error that the engine sends after its stream has begun.
ERROR_EVENT_PREFIX = b'data: {"error"'
#: In each event that only tells how far the engine is with the prompt. In a text, the quotes would be escaped.
PROGRESS_MARK = b'"prompt_progress":'
#: Seconds of silence until the relay asks for the verdicts on the last chunks. Otherwise it reads them with later ones.
IDLE_FLUSH_S = 0.1
#: Seconds that the token of one stream waits for the tokens of the others.
COALESCE_S = 0.002
#: Events at the end of a stream, one of which tells what it has used if the engine tells that.
CLOSING_EVENTS = 3
#: Why a call is stopped, for the verdicts that stop it.
STOP_REASONS = {
    Verdict.CANCEL: StopReason.CANCELLED,
    Verdict.INTERRUPT: StopReason.INTERRUPTED,
    Verdict.STALE: StopReason.STALE,
}

#: Seconds that the end of a response may take whose events have ended.
CLOSE_TIMEOUT_S = 1.0

AttemptKey = tuple[str, int]


class StreamCheck(Protocol):
    """Reads what the events of one stream say."""

    @property
    def is_done(self) -> bool:
        """Return whether the event was read behind which there are no others."""

    def take(self, event: bytes) -> bytes:
        """Return an event as it is to be passed on; b"" for one that is not. Raises the error that an event is."""

    def finish(self) -> list[bytes]:
        """Return the events that the engine has left out at its end."""


class _ErrorCheck:
    """Knows nothing of events but how llama.cpp writes an error."""

    is_done = False

    def take(self, event: bytes) -> bytes:
        if event.startswith(ERROR_EVENT_PREFIX):
            raise parse_error_event(event)
        return event

    def finish(self) -> list[bytes]:
        return []


def attempt_key(attempt: Attempt) -> AttemptKey:
    """Return what tells one attempt from all others."""
    return attempt.task_id, attempt.number


class RelayedStream:
    """One stream of events that the relay passes on.

    ``publish``: publish each event. ``keep``: keep all events for the task that waits; a stream that is not published
    keeps them always. ``edit`` changes an event before it is published or kept; b"" drops it. ``skip_progress``: leave
    out the events that tell how far the engine is with the prompt, because the caller has not asked for them.
    ``check`` reads what the events say.
    """

    def __init__(
        self,
        attempt: Attempt,
        call: Call,
        source: EventStream,
        *,
        publish: bool,
        keep: bool = False,
        edit: Callable[[bytes], bytes] | None = None,
        skip_progress: bool = False,
        check: StreamCheck | None = None,
    ) -> None:
        self.attempt = attempt
        self.key = attempt_key(attempt)
        self.call = call
        self.source = source
        self.publish = publish
        self.keep = keep or not publish
        self._edit = edit
        self._skip_progress = skip_progress
        self._check = check or _ErrorCheck()
        #: When the event was read behind which there are no others (monotonic clock); 0 until then.
        self.done_at = 0.0
        #: All events, or only the newest one if not all are kept.
        self.events: list[bytes] = []
        #: The first event, the last few, and the last one that told how far the engine was with the prompt, if these
        #: are left out.
        self.first = b""
        self.closing: list[bytes] = []
        self.progress = b""
        #: What ended the stream early.
        self.error: Exception | None = None
        #: The number of events so far, and when the first one came (monotonic clock).
        self.count = 0
        self.first_at = 0.0
        self._done = threading.Event()

    def read_batch(self) -> ChunkBatch | None:
        """Read the events that have arrived; return those that are to be published. Raises GraycatError."""
        events = self._read_until_error()
        if self._skip_progress:
            events = self._drop_progress(events)
        if self._edit is not None:
            events = [edited for event in events if (edited := self._edit(event))]
        if not events:
            return None

        first_number = self.count + 1
        if first_number == 1:
            self.first_at = time.monotonic()
            self.first = events[0]
        self.count += len(events)
        if self.keep:
            self.events += events
        else:
            self.events = events[-1:]
        self.closing = [*self.closing, *events][-CLOSING_EVENTS:]
        if not self.publish:
            return None
        return ChunkBatch(self.attempt, first_number, events)

    def _read_until_error(self) -> list[bytes]:
        """Return the events that have arrived; note an error among them, and leave out what follows it."""
        take = self._check.take
        events: list[bytes] = []
        for event in self.source.read():
            try:
                taken = take(event)
            except GraycatError as error:
                self.error = error
                return events
            if taken:
                events.append(taken)
        if self.source.ended:
            events += self._check.finish()
        elif self._check.is_done and not self.done_at:
            self.done_at = time.monotonic()
        return events

    def _drop_progress(self, events: list[bytes]) -> list[bytes]:
        """Return events without those that only tell how far the engine is with the prompt."""
        kept = []
        for event in events:
            if PROGRESS_MARK in event:
                self.progress = event
            else:
                kept.append(event)
        return kept

    @property
    def ended(self) -> bool:
        """Return whether no more events come."""
        return self.source.ended or self.error is not None or self.is_overdue

    @property
    def is_overdue(self) -> bool:
        """Return whether all events have come, but the response does not end."""
        return self.done_at > 0 and time.monotonic() - self.done_at >= CLOSE_TIMEOUT_S

    def release_waiter(self) -> None:
        """Let the task that waits for the stream go on."""
        self._done.set()

    def wait(self) -> None:
        """Return when the relay is done with the stream. Raises what ended it early."""
        self._done.wait()
        if self.error is not None:
            raise self.error


class StreamRelay:
    """Passes streams on, in a thread of its own that starts with the first stream."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        #: Streams that the thread has not seen yet.
        self._new: deque[RelayedStream] = deque()
        #: The streams under way.
        self._streams: dict[AttemptKey, RelayedStream] = {}
        #: The same by the file descriptors that are polled.
        self._by_descriptor: dict[int, RelayedStream] = {}
        #: Those whose events have all come, and whose responses have not ended.
        self._closing: list[RelayedStream] = []
        #: When the engine last sent a part of any stream (monotonic clock).
        self.heard_at = 0.0
        self._start_lock = threading.Lock()
        self._loop = GuardedThread("stream relay", self._run_loop)
        self._started = False

    def run(self, stream: RelayedStream) -> None:
        """Pass a stream on, and return at its end.

        Raises EngineError, EngineLost, EngineProtocolError, StaleAttempt, BrokerUnavailable.
        """
        with self._start_lock:
            if not self._started:
                self._start_thread()
                self._started = True
        self._new.append(stream)
        os.write(self._wakeup_sender, b"!")
        stream.wait()

    def _start_thread(self) -> None:
        # The selectors module calls three more functions for each token.
        self._poll = select.poll()
        self._wakeup_receiver, self._wakeup_sender = os.pipe()
        self._poll.register(self._wakeup_receiver, select.POLLIN)
        self._loop.start()

    def _run_loop(self) -> None:
        while True:
            try:
                self._step()
            except Exception as error:  # noqa: BLE001 (all streams of this worker depend on this loop)
                note("stream relay", error)
                self._fail_all(error)

    def _fail_all(self, error: Exception) -> None:
        """End every stream, also those that the failed step did not get to: their wakeup bytes may be read already."""
        while self._new:
            stream = self._new.popleft()
            self._streams[stream.key] = stream
        for stream in list(self._streams.values()):
            self._finish(stream, error)
        self._publisher.discard_pending()

    def _step(self) -> None:
        """Wait for events, and publish all that have come."""
        timeout_s = IDLE_FLUSH_S if self._publisher.has_pending or self._closing else None
        self._loop.rest()
        ready = self._wait_for_streams(timeout_s)
        self._loop.beat()
        batches = self._read_batches(ready)
        if batches and len(ready) < len(self._streams):
            self._coalesce(ready, batches)
        if batches:
            self._apply(lambda: self._publisher.publish(batches))

        ended = [stream for stream in ready if stream.ended]
        ended += [stream for stream in self._closing if stream.is_overdue and stream not in ended]
        if self._publisher.has_pending and (ended or not ready):
            # A task may end only after all its chunks are written.
            self._apply(self._publisher.flush)
        for stream in ended:
            self._finish(stream)

    def _wait_for_streams(self, timeout_s: float | None) -> list[RelayedStream]:
        """Return the streams that have bytes, and the new ones."""
        timeout_ms = None if timeout_s is None else timeout_s * 1000
        ready: list[RelayedStream] = []
        for descriptor, _ in self._poll.poll(timeout_ms):
            if descriptor == self._wakeup_receiver:
                ready += self._register_new()
            else:
                ready.append(self._by_descriptor[descriptor])
        return ready

    def _register_new(self) -> list[RelayedStream]:
        """Poll the new streams from now on, and return them: bytes that came with their headers are not polled."""
        os.read(self._wakeup_receiver, 4096)
        registered = []
        while self._new:
            stream = self._new.popleft()
            self._streams[stream.key] = stream
            try:
                descriptor = stream.source.fileno()
                self._poll.register(descriptor, select.POLLIN)
            except (ValueError, OSError) as error:
                # Its task has closed the connection meanwhile.
                self._finish(stream, error)
                continue
            self._by_descriptor[descriptor] = stream
            registered.append(stream)
        return registered

    def _read_batches(self, ready: list[RelayedStream]) -> list[ChunkBatch]:
        """Read the streams; note an error of one with it."""
        batches = []
        for stream in ready:
            try:
                batch = stream.read_batch()
            except GraycatError as error:
                stream.error = error
                continue
            except Exception as error:  # noqa: BLE001 (an engine may send anything; the other streams go on)
                note("stream relay", error)
                stream.error = error
                continue
            self.heard_at = time.monotonic()
            if stream.done_at and stream not in self._closing:
                self._closing.append(stream)
            if batch is not None:
                batches.append(batch)
        return batches

    def _coalesce(self, ready: list[RelayedStream], batches: list[ChunkBatch]) -> None:
        """Add for a moment what other streams bring: the engine decodes its slots together, so their tokens are near.

        A stream that has ended does not wait.
        """
        until = time.monotonic() + COALESCE_S
        while len(ready) < len(self._streams) and not any(stream.ended for stream in ready):
            timeout_s = until - time.monotonic()
            if timeout_s <= 0:
                return
            more = self._wait_for_streams(timeout_s)
            if not more:
                return
            batches += self._read_batches(more)
            ready += [stream for stream in more if stream not in ready]

    def _apply(self, publish: Callable[[], BatchVerdicts]) -> None:
        """Publish or flush, and do to the streams what the verdicts say."""
        try:
            verdicts = publish()
        except BrokerUnavailable as error:
            for batch in self._publisher.discard_pending():
                stream = self._streams.get(attempt_key(batch.attempt))
                if stream is not None:
                    stream.error = error
                    self._finish(stream)
            return

        for batch, reason in self._publisher.pop_refused():
            stream = self._streams.get(attempt_key(batch.attempt))
            if stream is not None:
                self._finish(stream, reason)
        for batch, verdict in verdicts:
            if verdict is not Verdict.GO_ON:
                self._stop(attempt_key(batch.attempt), verdict)

    def _stop(self, key: AttemptKey, verdict: Verdict) -> None:
        stream = self._streams.get(key)
        if stream is None:
            return
        if verdict is Verdict.STALE:
            self._finish(stream, StaleAttempt())
        else:
            stream.call.stop(STOP_REASONS[verdict])

    def _finish(self, stream: RelayedStream, error: Exception | None = None) -> None:
        """Forget a stream and let its task go on; ``error`` ends it unless it has an error already."""
        if self._streams.pop(stream.key, None) is not stream:
            # It has ended before: its descriptor may be another stream's by now.
            return
        if stream in self._closing:
            self._closing.remove(stream)
        if stream.error is None:
            stream.error = error
        # Before the task goes on: it closes the socket, and another socket may get the same descriptor then.
        try:
            descriptors = [number for number, polled in self._by_descriptor.items() if polled is stream]
            for descriptor in descriptors:
                del self._by_descriptor[descriptor]
                self._poll.unregister(descriptor)
        finally:
            stream.release_waiter()


def parse_error_event(event: bytes) -> GraycatError:
    """Return the error that an engine sent after its stream had begun."""
    reply = event.removeprefix(b"data: ").strip()
    try:
        return EngineError(int(parse_json(reply)["error"].get("code", 500)), reply)
    except (ValueError, KeyError, TypeError, AttributeError):
        return EngineProtocolError()
