"""Progress of a render, asked of its engine now and then, and told in the task's record and events."""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from typing import Any

from graycat.engines.webui import PROGRESS, WebuiEngine
from graycat.errors import BrokerUnavailable, EngineLost
from graycat.queue.models import Attempt
from graycat.queue.records import TaskRecords
from graycat.worker.stream_relay import STOP_REASONS


class ProgressReporter:
    """Reports one attempt's render: ``{"progress": 0..1, "eta_s", "step", "steps", "preview": bool}``."""

    #: Seconds between two reports; nobody sees more, and each costs the engine a preview.
    EVERY_S = 0.5

    def __init__(self, engine: WebuiEngine, records: TaskRecords, attempt: Attempt, call: Any) -> None:
        self._engine = engine
        self._records = records
        self._attempt = attempt
        self._call = call
        self._last: dict[str, Any] = {}
        self._preview = b""
        self._able = True

    def report(self) -> None:
        """Ask and tell, where there is news. Raises EngineLost."""
        if not self._able or (seen := self._ask()) is None:
            return
        preview = _decoded(seen.pop("current_image"))
        if seen == self._last and preview == self._preview:
            return
        data = json.dumps(seen | {"preview": bool(preview)}).encode()
        try:
            if preview and preview != self._preview:
                self._records.save_preview(self._attempt.task_id, preview)
            if reason := STOP_REASONS.get(self._records.report_progress(self._attempt, data)):
                self._call.stop(reason)
        except BrokerUnavailable:
            # The next report tells it.
            return
        self._last, self._preview = seen, preview

    def _ask(self) -> dict[str, Any] | None:
        """Return what the engine says of the render that it is at; None where it does not tell."""
        with self._engine.client.open("GET", PROGRESS, timeout_s=2.0) as response:
            reply = response.read()
        if response.status != 200:
            self._able = False
            return None
        try:
            seen = json.loads(reply)
            state = seen["state"]
            if state["job_count"] == 0:
                # It is not at it yet, and tells of its last render.
                return None
            return {
                "progress": round(min(max(float(seen["progress"]), 0.0), 1.0), 3),
                "eta_s": round(max(float(seen["eta_relative"]), 0.0), 1),
                "step": int(state["sampling_step"]),
                "steps": int(state["sampling_steps"]),
                "job": int(state["job_no"]),
                "jobs": max(int(state["job_count"]), 0),
                "current_image": seen.get("current_image"),
            }
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise EngineLost from error


def _decoded(preview: object) -> bytes:
    """Return a preview's bytes; none for what is no base64."""
    try:
        return b64decode(preview, validate=True) if isinstance(preview, str) else b""
    except (binascii.Error, ValueError):
        return b""
