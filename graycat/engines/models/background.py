"""Downloads an engine's checkpoints in a thread, before the supervisor starts the engine for the first time."""

from __future__ import annotations

import logging
import threading

from graycat.engines.models import checkpoints
from graycat.engines.models.errors import DownloadFailed
from graycat.errors import SettingsError
from graycat.loops import readiness
from graycat.settings import Settings

logger = logging.getLogger(__name__)

#: Seconds before a failed download is tried again; doubled after each failure, up to the maximum.
FIRST_BACKOFF_S, MAX_BACKOFF_S = 5.0, 300.0
#: The log gets a line after each step of this many percent.
LOG_INTERVAL_PERCENT = 10.0
#: Seconds that ``stop`` waits for the thread. It is a daemon thread, and the next download resumes what it leaves.
JOIN_TIMEOUT_S = 1.0


class BackgroundDownload:
    """Downloads what an engine needs. The supervisor calls ``ready`` at every step, so it never waits."""

    def __init__(self, settings: Settings, kind: str) -> None:
        self._settings = settings
        self._kind = kind
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._done = threading.Event()
        self._logged_percent = 0.0
        #: The progress, or why the download waits, for operators; contains no URL.
        self.detail = ""
        #: How far the download is, and the file that it is at; None while it waits or has nothing to do.
        self.percent: float | None = None
        self.file = ""

    def ready(self) -> bool:
        """Return whether all checkpoints are on disk. The first call starts the download if one is missing."""
        if self._thread is None and not self._done.is_set():
            if checkpoints.list_missing(self._settings, self._kind):
                self._thread = threading.Thread(target=self._download, name="downloads", daemon=True)
                self._thread.start()
            else:
                self._done.set()
        return self._done.is_set()

    def stop(self) -> None:
        """Stop downloading."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(JOIN_TIMEOUT_S)

    def _download(self) -> None:
        """Download until everything is here, or until ``stop``; the thread's main function."""
        backoff_s = FIRST_BACKOFF_S
        while not self._stop.is_set():
            self._logged_percent = 0.0
            self._report_progress("", 0.0)
            try:
                checkpoints.ensure(self._settings, self._kind, self._report_progress, self._stop)
            except (DownloadFailed, SettingsError) as error:
                reason = str(error)
            except Exception:
                # A bug must be visible as a failure, not as a download that never ends.
                logger.exception("download failed")
                reason = "unexpected error, see the worker's log"
            else:
                self.detail = ""
                self.percent = None
                self._done.set()
                return

            self.percent = None
            if not self._stop.is_set():
                self.detail = f"download failed: {reason}; the next attempt starts within {backoff_s:g} s"
                extra = {"kind": self._kind, "reason": reason, "retry_in_s": backoff_s}
                logger.error("download failed", extra=extra)
            self._stop.wait(backoff_s)
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)

    def _report_progress(self, name: str, percent: float) -> None:
        self.detail = f"downloading {percent:.0f} %"
        self.file, self.percent = name, percent
        if percent - self._logged_percent >= LOG_INTERVAL_PERCENT:
            self._logged_percent = percent
            # A supervisor that listens shows how far it is.
            level = logging.DEBUG if readiness.is_heard() else logging.INFO
            logger.log(level, "downloading", extra={"file": name, "percent": round(percent)})
