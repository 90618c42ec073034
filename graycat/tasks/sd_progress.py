"""Progress of a render: asked of the engine at intervals, and written to the task's record and events."""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from typing import Any

from graycat.bounds.stored import parse_json
from graycat.engines.client import Call
from graycat.engines.webui import PROGRESS, WebuiEngine
from graycat.errors import BrokerUnavailable, EngineLost
from graycat.queue.models import Attempt
from graycat.queue.records import TaskRecords
from graycat.worker.stream_relay import STOP_REASONS


class ProgressReporter:
    """Reports the progress of one attempt's render.

    A report is ``{"progress": 0..1, "eta_s", "step", "steps", "job", "jobs", "preview": bool}``.
    """

    #: Seconds between two reports. Each costs the engine a preview, and more would not be seen.
    INTERVAL_S = 0.5

    def __init__(self, engine: WebuiEngine, records: TaskRecords, attempt: Attempt, call: Call) -> None:
        self._engine = engine
        self._records = records
        self._attempt = attempt
        self._call = call
        self._last_progress: dict[str, Any] = {}
        self._last_preview = b""
        #: Whether the engine has the route.
        self._supported = True

    def report(self) -> None:
        """Ask the engine, and write its progress if that has changed. Raises EngineLost."""
        if not self._supported:
            return
        progress = self._ask()
        if progress is None:
            return
        preview = _decode_preview(progress.pop("current_image"))
        if progress == self._last_progress and preview == self._last_preview:
            return

        report = json.dumps(progress | {"preview": bool(preview)}).encode()
        try:
            if preview and preview != self._last_preview:
                self._records.save_preview(self._attempt.task_id, preview)
            verdict = self._records.report_progress(self._attempt, report)
        except BrokerUnavailable:
            # The next report repeats it.
            return
        reason = STOP_REASONS.get(verdict)
        if reason is not None:
            self._call.stop(reason)
        self._last_progress = progress
        self._last_preview = preview

    def _ask(self) -> dict[str, Any] | None:
        """Return the engine's progress of its current render; None if it tells none. Raises EngineLost."""
        with self._engine.client.open("GET", PROGRESS, timeout_s=2.0) as response:
            reply = response.read()
        if response.status != 200:
            self._supported = False
            return None
        try:
            return _parse_progress(parse_json(reply))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise EngineLost from error


def _parse_progress(reply: Any) -> dict[str, Any] | None:
    """Return the progress that a WebUI's reply tells; None if it has not begun. Raises ValueError, KeyError and others.

    A WebUI that has not begun repeats the progress of its last render.
    """
    state = reply["state"]
    if state["job_count"] == 0:
        return None
    return {
        "progress": round(min(max(float(reply["progress"]), 0.0), 1.0), 3),
        "eta_s": round(max(float(reply["eta_relative"]), 0.0), 1),
        "step": int(state["sampling_step"]),
        "steps": int(state["sampling_steps"]),
        "job": int(state["job_no"]),
        "jobs": max(int(state["job_count"]), 0),
        "current_image": reply.get("current_image"),
    }


def _decode_preview(preview: object) -> bytes:
    """Return a preview's bytes; none if it is not base64."""
    if not isinstance(preview, str):
        return b""
    try:
        return b64decode(preview, validate=True)
    except (binascii.Error, ValueError):
        return b""
