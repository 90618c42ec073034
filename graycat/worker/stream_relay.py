"""The stream pump: one thread carries the tokens of all streams of a worker from the engine to the broker.

An engine decodes its slots together, so the tokens of several streams arrive together. They are published together,
too: a thread a stream would wake, wait for the interpreter and ask the broker once for each (docs/decisions/0006).
"""

from __future__ import annotations

import json
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable

from graycat.engines.client import Call, StopReason
from graycat.engines.sse import EventStream
from graycat.errors import BrokerUnavailable, EngineError, EngineProtocolError, GraycatError, StaleAttempt
from graycat.queue.models import Attempt, ChunkBatch, Verdict
from graycat.worker.publisher import Publisher, Settled

logger = logging.getLogger(__name__)

#: How an error looks that the engine sends once its stream has begun.
ERROR_EVENT = b'data: {"error"'

#: Seconds of silence after which the verdicts on the last chunks are asked for; else they are read with later ones.
SETTLE_AFTER_S = 0.1

#: Seconds that a token waits for those of other streams.
TOGETHER_S = 0.002

#: What a call is stopped for, by what its record wants of it.
STOPS = {
    Verdict.CANCEL: StopReason.CANCELLED,
    Verdict.INTERRUPT: StopReason.INTERRUPTED,
    Verdict.STALE: StopReason.STALE,
}


Key = tuple[str, int]


def key_of(attempt: Attempt) -> Key:
    """Return what tells one attempt from all others."""
    return attempt.task_id, attempt.number


class RelayedStream:
    """One stream on its way. ``publish``: each event is passed on; ``keep``: all are kept, for whoever gathers them.

    ``edit`` changes an event before anybody sees it.
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
    ) -> None:
        self.attempt = attempt
        self.key = key_of(attempt)
        self.call = call
        self.source = source
        self.publish = publish
        self.keep = keep or not publish
        self._edit = edit
        #: All events, or the newest one where not all are kept.
        self.events: list[bytes] = []
        self.error: Exception | None = None
        #: How many events have come, and when the first did (monotonic clock).
        self.count = 0
        self.first_at = 0.0
        self._done = threading.Event()

    def take(self) -> ChunkBatch | None:
        """Read what has arrived; return what of it is to be published. Raises GraycatError."""
        events = self.source.read()
        for place, event in enumerate(events):
            if event.startswith(ERROR_EVENT):
                self.error = late_error(event)
                events = events[:place]
                break
        if not events:
            return None
        number = self.count + 1
        if number == 1:
            self.first_at = time.monotonic()
        self.count += len(events)
        if self._edit is not None:
            events = [self._edit(event) for event in events]
        if self.keep:
            self.events += events
        else:
            self.events = events[-1:]
        if not self.publish:
            return None
        return ChunkBatch(self.attempt, number, events)

    @property
    def over(self) -> bool:
        """Tell whether nothing more comes."""
        return self.source.ended or self.error is not None

    def end(self) -> None:
        """Let the waiting task go on."""
        self._done.set()

    def wait(self) -> None:
        """Return when the stream has ended. Raises what ended it early."""
        self._done.wait()
        if self.error is not None:
            raise self.error


class StreamRelay:
    """Carries flows in a thread of its own, from ``carry`` to their end."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._new: deque[RelayedStream] = deque()
        #: Those under way, by the attempt that they are of.
        self._flows: dict[Key, RelayedStream] = {}
        #: Those whose bytes are waited for, by their descriptors.
        self._watched: dict[int, RelayedStream] = {}
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None

    def carry(self, flow: RelayedStream) -> None:
        """Carry a stream to its end.

        Raises EngineError, EngineLost, EngineProtocolError, StaleAttempt, BrokerUnavailable.
        """
        with self._start:
            if self._thread is None:
                self._begin()
        self._new.append(flow)
        os.write(self._ring, b"!")
        flow.wait()

    def _begin(self) -> None:
        # The selectors module goes through three functions more for each token.
        self._poll = select.poll()
        self._bell, self._ring = os.pipe()
        self._poll.register(self._bell, select.POLLIN)
        self._thread = threading.Thread(target=self._run, name="pump", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                self._step()
            except Exception as error:
                logger.exception("stream pump failed")
                self._end_all(error)

    def _end_all(self, error: Exception) -> None:
        """End every stream, also those that the failed step did not get to: nobody would ring for them again."""
        while self._new:
            flow = self._new.popleft()
            self._flows[flow.key] = flow
        for flow in list(self._flows.values()):
            self._end(flow, error)
        self._publisher.forget()

    def _step(self) -> None:
        """Wait for bytes, and publish all that has come."""
        ready = self._ready(SETTLE_AFTER_S if self._publisher.unsettled else None)
        batches = self._taken(ready)
        if batches and len(ready) < len(self._flows):
            self._wait_for_others(ready, batches)
        if batches:
            self._obey(lambda: self._publisher.publish(batches))
        over = [flow for flow in ready if flow.over]
        if self._publisher.unsettled and (over or not ready):
            # A task may only end when all its chunks are written.
            self._obey(self._publisher.settle)
        for flow in over:
            self._end(flow)

    def _ready(self, timeout_s: float | None) -> list[RelayedStream]:
        """Return the flows that have bytes, and those that are new."""
        ready: list[RelayedStream] = []
        for descriptor, _ in self._poll.poll(timeout_s and timeout_s * 1000):
            if descriptor == self._bell:
                ready += self._welcome()
            else:
                ready.append(self._watched[descriptor])
        return ready

    def _taken(self, ready: list[RelayedStream]) -> list[ChunkBatch]:
        return [batch for flow in ready if (batch := self._take(flow)) is not None]

    def _wait_for_others(self, ready: list[RelayedStream], batches: list[ChunkBatch]) -> None:
        """Take for a moment what else comes: an engine decodes its slots together, so one wake carries all tokens."""
        until = time.monotonic() + TOGETHER_S
        while len(ready) < len(self._flows) and not any(flow.over for flow in ready):
            if (patience_s := until - time.monotonic()) <= 0 or not (more := self._ready(patience_s)):
                return
            batches += self._taken(more)
            ready += [flow for flow in more if flow not in ready]

    def _welcome(self) -> list[RelayedStream]:
        """Register the new flows; they may have bytes that the selector does not know of."""
        os.read(self._bell, 4096)
        new = []
        while self._new:
            flow = self._new.popleft()
            self._flows[flow.key] = flow
            descriptor = flow.source.fileno()
            self._poll.register(descriptor, select.POLLIN)
            self._watched[descriptor] = flow
            new.append(flow)
        return new

    @staticmethod
    def _take(flow: RelayedStream) -> ChunkBatch | None:
        try:
            return flow.take()
        except GraycatError as error:
            flow.error = error
            return None

    def _obey(self, publish: Callable[[], Settled]) -> None:
        """Publish or settle, and do what the broker says of the streams."""
        try:
            settled = publish()
        except BrokerUnavailable as error:
            for batch in self._publisher.forget():
                if flow := self._flows.get(key_of(batch.attempt)):
                    flow.error = error
                    self._end(flow)
            return
        for batch, verdict in settled:
            if verdict is Verdict.GO_ON or not (flow := self._flows.get(key_of(batch.attempt))):
                continue
            if verdict is Verdict.STALE:
                flow.error = StaleAttempt()
                self._end(flow)
            else:
                flow.call.stop(STOPS[verdict])

    def _end(self, flow: RelayedStream, error: Exception | None = None) -> None:
        if self._flows.pop(flow.key, None) is not flow:
            # Ended before: its descriptor may be another's by now.
            return
        flow.error = flow.error or error
        # Before the task goes on: it closes the socket, and a descriptor of that number may be another's then.
        for descriptor in [number for number, watched in self._watched.items() if watched is flow]:
            del self._watched[descriptor]
            self._poll.unregister(descriptor)
        flow.end()


def late_error(event: bytes) -> GraycatError:
    """Return the error that an engine sent once its stream had begun."""
    reply = event.removeprefix(b"data: ").strip()
    try:
        return EngineError(int(json.loads(reply)["error"].get("code", 500)), reply)
    except (ValueError, KeyError, TypeError, AttributeError):
        return EngineProtocolError()
