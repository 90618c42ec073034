"""Progress of a render: asked of the engine at intervals, and written to the task's record and events."""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from typing import Any

from graycat.engines.client import Call
from graycat.engines.renders import Render
from graycat.errors import BrokerUnavailable
from graycat.queue.models import Attempt
from graycat.queue.records import TaskRecords
from graycat.worker.stream_relay import STOP_REASONS


class ProgressReporter:
    """Reports the progress of one attempt's render.

    A report is ``{"progress": 0..1, "eta_s", "step", "steps", "job", "jobs", "preview": bool}``.
    """

    #: Seconds between two reports. Each costs the engine a preview, and more would not be seen.
    INTERVAL_S = 0.5

    def __init__(self, render: Render, records: TaskRecords, attempt: Attempt, call: Call) -> None:
        self._render = render
        self._records = records
        self._attempt = attempt
        self._call = call
        self._last_progress: dict[str, Any] = {}
        self._last_preview = b""
        #: Whether the engine tells it.
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
        """Return the progress of the render; None if it tells none. Raises EngineLost."""
        try:
            return self._render.progress()
        except NotImplementedError:
            self._supported = False
            return None


def _decode_preview(preview: object) -> bytes:
    """Return a preview's bytes; none if it is not base64."""
    if isinstance(preview, bytes):
        return preview
    if not isinstance(preview, str):
        return b""
    try:
        return b64decode(preview, validate=True)
    except (binascii.Error, ValueError):
        return b""
