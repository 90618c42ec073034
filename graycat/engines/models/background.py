"""An engine's checkpoints, downloaded by a thread beside its supervision before the first start."""

from __future__ import annotations

import logging
import threading

from graycat.engines.models import checkpoints
from graycat.engines.models.errors import DownloadFailed
from graycat.errors import SettingsError
from graycat.settings import Settings

logger = logging.getLogger(__name__)

#: Seconds until a download that failed is tried again, doubled for each further time, up to the last.
FIRST_BACKOFF_S, LAST_BACKOFF_S = 5.0, 300.0
#: Percent between two lines in the log.
LOG_EVERY_PERCENT = 10.0
#: Seconds that the thread gets to end; it is a daemon, and whatever it was at can be gone on with.
JOIN_S = 1.0


class BackgroundDownload:
    """What an engine needs on disk. ``there`` is asked at every step and never waits."""

    def __init__(self, settings: Settings, kind: str) -> None:
        self._settings, self._kind = settings, kind
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._done = threading.Event()
        self._logged = 0.0
        #: How far it is, or why it waits; holds no address.
        self.detail = ""

    def ready(self) -> bool:
        """Tell whether everything is here; the first time that it is not, begin to download."""
        if self._thread is None and not self._done.is_set():
            if checkpoints.missing(self._settings, self._kind):
                self._thread = threading.Thread(target=self._download, name="downloads", daemon=True)
                self._thread.start()
            else:
                self._done.set()
        return self._done.is_set()

    def stop(self) -> None:
        """Stop downloading."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(JOIN_S)

    def _download(self) -> None:
        backoff_s = FIRST_BACKOFF_S
        while not self._stop.is_set():
            self._logged = 0.0
            self._tell("", 0.0)
            try:
                checkpoints.ensure(self._settings, self._kind, self._tell, self._stop)
            except (DownloadFailed, SettingsError) as error:
                reason = str(error)
            except Exception:
                # A defect must not look like a download that goes on for ever.
                logger.exception("download failed")
                reason = "its worker's log tells why"
            else:
                self.detail = ""
                self._done.set()
                return
            if not self._stop.is_set():
                self.detail = f"download failed: {reason}; the next try comes within {backoff_s:g} s"
                about = {"kind": self._kind, "reason": reason, "retry_in_s": backoff_s}
                logger.error("download failed", extra=about)
            self._stop.wait(backoff_s)
            backoff_s = min(2 * backoff_s, LAST_BACKOFF_S)

    def _tell(self, name: str, percent: float) -> None:
        self.detail = f"downloading {percent:.0f} %"
        if percent - self._logged >= LOG_EVERY_PERCENT:
            self._logged = percent
            logger.info("downloading", extra={"file": name, "percent": round(percent)})
