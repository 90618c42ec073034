"""One prompt of ours in a ComfyUI: sent once, followed to its end, cancelled by its id alone.

Its id is chosen here, from the task and the attempt, before it is sent. So an attempt finds what an earlier one has
sent, and whose worker has died: then it waits for that, and nothing is made twice.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

from graycat.engines.client import Call, StopReason
from graycat.engines.comfy.plans import Plan
from graycat.engines.comfy.progress import ProgressTracker
from graycat.engines.comfy.refusals import failure, refusal
from graycat.engines.comfy.socket import ComfySocket, SocketLost
from graycat.engines.comfy.wire import ComfyWire, History, OutputFile
from graycat.engines.renders import RenderJob
from graycat.errors import EngineLost, EngineProtocolError, LimitExceeded, RequestError

logger = logging.getLogger(__name__)

#: Seconds of one look at the socket.
LOOK_S = 0.25
#: Seconds between two looks over HTTP: while messages come, once they have stopped, and without a socket or at the end.
POLL_HEARD_S, POLL_SILENT_S, POLL_URGENT_S = 10.0, 2.0, 0.5
#: Seconds without a message of ours after which the socket counts as silent: events were seen to stop for all clients.
SILENT_AFTER_S = 3.0
#: So many looks in a row must find a prompt nowhere before it counts as lost: it may be on its way into the history.
LOOKS_UNTIL_LOST = 3
#: Seconds in which a prompt turns up whose POST was not answered.
LOST_POST_S = 10.0


def prompt_id_of(task_id: str, attempt: int) -> str:
    """Return the id of an attempt's prompt: a lower-case UUID, always the same."""
    return str(uuid5(NAMESPACE_URL, f"graycat:{task_id}/{attempt}"))


class ComfyRender:
    """One attempt at one task. ``read``: returns the task's plan; raises RequestError, LimitExceeded."""

    def __init__(
        self,
        wire: ComfyWire,
        connect: Callable[[str], ComfySocket],
        job: RenderJob,
        call: Call,
        read: Callable[[], Plan],
        *,
        interruptible: bool,
    ) -> None:
        """``connect``: opens a socket under a client id; ``interruptible``: the engine interrupts by id."""
        self._wire = wire
        self._connect = connect
        self._job = job
        self._call = call
        self._read = read
        self._interruptible = interruptible
        self._given_up = threading.Event()
        #: The prompt that is followed; '' before it is sent.
        self._prompt_id = ""
        self._tracker: ProgressTracker | None = None
        #: Whether the prompt ran to its end.
        self._whole = False

    def run(self) -> tuple[int, bytes]:
        """Render; return status and body as the WebUI's API answers. Raises EngineLost, EngineProtocolError."""
        try:
            plan = self._read()
        except (RequestError, LimitExceeded) as error:
            return error.status, error.encoded()

        try:
            return self._render(plan)
        except EngineProtocolError:
            # The task has failed: nobody would take what the prompt makes.
            self._abandon()
            raise

    def _render(self, plan: Plan) -> tuple[int, bytes]:
        history = self._find_earlier()
        if history is None and self._prompt_id:
            history = self._follow(None)
        elif history is None:
            status, body, history = self._send(plan)
            if body:
                return status, body
        return self._answer(plan, history)

    def _abandon(self) -> None:
        """Cancel the prompt, if the engine still listens."""
        if self._prompt_id:
            with contextlib.suppress(EngineLost, EngineProtocolError):
                self._send_cancel()

    def _find_earlier(self) -> History | None:
        """Look for the prompts of earlier attempts: return how one has ended well, or set the one that is queued."""
        for attempt in range(self._job.attempt - 1, 0, -1):
            prompt_id = prompt_id_of(self._job.task_id, attempt)
            history = self._wire.history(prompt_id)
            if history is not None and history.outcome == "success":
                return history
            if history is None and self._wire.is_queued(prompt_id):
                logger.info("prompt of an earlier attempt found", extra={"task_id": self._job.task_id})
                self._prompt_id = prompt_id
                return None
        return None

    def _send(self, plan: Plan) -> tuple[int, bytes, History | None]:
        """Send the plan's workflow and follow it; return an error's status and body, or how it ended."""
        prompt_id = prompt_id_of(self._job.task_id, self._job.attempt)
        files = {}
        for name, image in plan.uploads.items():
            files[name] = self._wire.upload(image, "png")
        workflow = plan.build(files, f"graycat/{prompt_id}")
        # A fresh id for each connection: two with the same one make the newer one deaf when the older one closes.
        client_id = str(uuid4())
        # Messages may come before the answer to the POST.
        self._tracker = ProgressTracker(prompt_id, workflow)
        socket = self._open_socket(client_id)
        try:
            if self._call.stopped is not None:
                raise EngineLost
            self._prompt_id = prompt_id
            status, body = self._submit(workflow, client_id)
            if body:
                return status, body, None
            return 200, b"", self._follow(socket)
        finally:
            if socket is not None:
                socket.close()

    def _open_socket(self, client_id: str) -> ComfySocket | None:
        try:
            return self._connect(client_id)
        except SocketLost:
            logger.info("ComfyUI without a socket: its progress is not known", extra={"task_id": self._job.task_id})
            return None

    def _submit(self, workflow: Mapping[str, Any], client_id: str) -> tuple[int, bytes]:
        """Send a workflow; return status and body of an error, or (200, b"") if the prompt is queued."""
        try:
            status, answer = self._wire.submit(workflow, self._prompt_id, client_id, self._call)
        except (EngineLost, EngineProtocolError):
            # It may have come in all the same: only looking tells.
            if self._turns_up():
                return 200, b""
            raise
        if status >= 500:
            # Seen: 500, and yet it is queued and runs.
            if self._turns_up():
                return 200, b""
            return refusal(status, answer, workflow)
        if status != 200 or not isinstance(answer, dict):
            return refusal(status, answer, workflow)
        if answer.get("prompt_id") != self._prompt_id:
            # One that chooses ids itself (before 0.3.45), or one that lies.
            self._drop_foreign(answer.get("prompt_id"))
            raise EngineProtocolError
        if answer.get("node_errors"):
            # A part of it would be rendered without the rest.
            self._cancel_now()
            return refusal(400, answer, workflow)
        return 200, b""

    def _drop_foreign(self, prompt_id: Any) -> None:
        """Take a prompt that we have sent, and that got another id, out of the queue."""
        if isinstance(prompt_id, str) and prompt_id:
            self._wire.delete(prompt_id)

    def _turns_up(self) -> bool:
        """Return whether a prompt is known whose POST was not answered. Raises EngineLost if nothing answers."""
        deadline = time.monotonic() + LOST_POST_S
        while not self._given_up.is_set():
            if self._wire.is_queued(self._prompt_id) or self._wire.history(self._prompt_id) is not None:
                return True
            if time.monotonic() >= deadline:
                return False
            self._given_up.wait(POLL_URGENT_S)
        return False

    def _cancel_now(self) -> None:
        """Cancel the prompt, and wait until it is gone or has ended."""
        self._send_cancel()
        self._follow(None, cancelled=True)

    def _follow(self, socket: ComfySocket | None, *, cancelled: bool = False) -> History | None:
        """Wait for the prompt's end; return how it ended, None if it was taken out of the queue.

        Raises EngineLost if it is lost, or nothing answers.
        """
        looks = 0
        polled_at = heard_at = time.monotonic()
        while True:
            if self._given_up.is_set():
                raise EngineLost
            socket, heard = self._listen(socket)
            now = time.monotonic()
            if heard:
                heard_at = now
            if now - polled_at < self._pause(socket, now - heard_at, urgent=cancelled or looks > 0):
                continue
            polled_at = now
            history, known = self._look()
            if history is not None:
                return history
            looks = 0 if known else looks + 1
            if looks < LOOKS_UNTIL_LOST:
                continue
            if cancelled or self._call.stopped is not None:
                # A prompt that was deleted leaves no trace.
                return None
            logger.warning("ComfyUI has lost a prompt", extra={"task_id": self._job.task_id})
            raise EngineLost

    def _listen(self, socket: ComfySocket | None) -> tuple[ComfySocket | None, bool]:
        """Wait for a message, for a moment; return the socket if it still is one, and whether a message was ours."""
        if socket is None:
            self._given_up.wait(LOOK_S)
            return None, False
        try:
            message = socket.receive(LOOK_S)
        except SocketLost:
            # Not opened again: a second connection with the id of the prompt might go deaf. HTTP tells the end.
            return None, False
        if message is None or self._tracker is None:
            return socket, False
        return socket, self._tracker.feed(message, has_metadata=socket.has_metadata)

    def _pause(self, socket: ComfySocket | None, silent_s: float, *, urgent: bool) -> float:
        """Return the seconds between two looks over HTTP."""
        over = self._tracker is not None and self._tracker.over
        if over:
            # The history is written before the last message.
            return 0.0 if not urgent else POLL_URGENT_S / 5
        if socket is None or urgent or self._call.stopped is not None:
            return POLL_URGENT_S
        return POLL_SILENT_S if silent_s > SILENT_AFTER_S else POLL_HEARD_S

    def _look(self) -> tuple[History | None, bool]:
        """Return how the prompt ended, and whether it is known; a slow answer tells nothing. Raises EngineLost."""
        try:
            history = self._wire.history(self._prompt_id)
            if history is not None:
                return history, True
            return None, self._wire.is_queued(self._prompt_id)
        except EngineLost as error:
            if isinstance(error.__cause__, TimeoutError):
                return None, True
            raise

    def _answer(self, plan: Plan, history: History | None) -> tuple[int, bytes]:
        stopped = self._call.stopped
        # An interrupt during the last node is lost.
        self._whole = history is not None and history.outcome == "success"
        if history is None or (history.outcome != "success" and stopped not in (None, StopReason.INTERRUPTED)):
            history = History("interrupted", {}, {})
        if history.outcome == "error" and stopped is None:
            return failure(history)
        if history.outcome == "interrupted" and stopped is None:
            # Somebody else has ended it: within its attempts it is made again.
            raise EngineLost
        return 200, json.dumps(plan.answer(history, self._fetch)).encode()

    def _fetch(self, file: OutputFile) -> bytes:
        data = self._wire.download(file)
        if data is None:
            raise EngineProtocolError
        return data

    def progress(self) -> dict[str, Any] | None:
        """Return how far it is; None before it begins, and for a prompt of an earlier attempt."""
        return None if self._tracker is None else self._tracker.report()

    def interrupt(self) -> bool:
        """Cancel the prompt: out of the queue if it waits there, interrupted if it is the one that runs."""
        if self._call.stopped is StopReason.STALE:
            # A newer attempt may follow the same prompt.
            self.give_up()
            return False
        if not self._prompt_id:
            return False
        self._send_cancel()
        return self._interruptible

    def _send_cancel(self) -> None:
        # Both: it may start between the two.
        self._wire.delete(self._prompt_id)
        if self._interruptible:
            self._wire.interrupt(self._prompt_id)

    def is_whole(self) -> bool:
        """Return whether the prompt ran to its end."""
        return self._whole

    def skip(self) -> None:
        """Do nothing: ComfyUI has no such thing."""

    def give_up(self) -> None:
        """Stop waiting."""
        self._given_up.set()
