"""Logging: one line an event, ``key=value`` pairs behind it; secrets, prompts and outputs never get through."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from graycat.settings import Settings

#: Fields whose values are never written, whoever logs them.
PRIVATE = frozenset({"prompt", "content", "messages", "body", "authorization", "token", "api_token", "password"})
REDACTED = "[redacted]"

#: Libraries that write a line or two a task, beside our own.
CHATTY = ("celery.worker.strategy", "celery.app.trace", "urllib3")

#: What every LogRecord has; everything else came in through ``extra``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class EventFormatter(logging.Formatter):
    """Writes ``2026-11-23T10:00:00Z INFO graycat.web request route=/health status=200``."""

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        super().__init__("%(asctime)sZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime
        # The longest first: one secret may be a part of another.
        self._secrets = sorted(secrets, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line; the traceback of an exception follows on lines of its own."""
        line = super().format(record)
        extras = " ".join(f"{name}={_value(name, value)}" for name, value in _extras(record))
        if extras:
            head, newline, traceback = line.partition("\n")
            line = f"{head} {extras}{newline}{traceback}"
        for secret in self._secrets:
            line = line.replace(secret, REDACTED)
        return line


def _extras(record: logging.LogRecord) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in vars(record).items() if name not in _STANDARD and name[0] != "_"]


def _value(name: str, value: Any) -> str:
    if name in PRIVATE:
        return REDACTED
    text = str(value)
    return json.dumps(text) if not text or any(c in text for c in ' "=\n') else text


def setup(settings: Settings, *secrets: str) -> None:
    """Send every logger's records to standard error, in graycat's form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EventFormatter(settings.secrets + secrets))
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
