"""Logging: one line an event, ``key=value`` pairs behind it; secrets, prompts and outputs never get through."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import Any

from graycat.settings import Settings

#: Minted API tokens and players', from where they begin to be secret.
_MADE = re.compile(r"\b(gc_[a-z0-9]{8}_|gp_)[\w.-]{20,}", re.ASCII)
#: Fields whose values are never written, whoever logs them.
PRIVATE = frozenset({"prompt", "content", "messages", "body", "authorization", "token", "api_token", "password"})
REDACTED = "[redacted]"

#: Least levels of libraries that write a line or two a task beside our own, or whole messages when they debug.
LEAST_LEVELS = {
    "celery.worker.strategy": logging.WARNING,
    "celery.beat": logging.WARNING,
    "celery.app.trace": logging.ERROR,  # a task that was handed back is no news, let alone its traceback
    "tornado.access": logging.WARNING,
    "urllib3": logging.WARNING,
    "push_response": logging.WARNING,  # redis-py: what was pushed, answers and all
    "gunicorn.error": logging.INFO,
    "kombu": logging.INFO,
    "redis": logging.INFO,
    "opentelemetry": logging.ERROR,  # each of its tries; that it has given up is one line
}

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
        return self._redacted(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the name in logging.Formatter)
        """Return the line without a traceback; nothing in it can begin another line or another field."""
        record.message = record.message.replace("\r", "\\r").replace("\n", "\\n")
        extras = (f" {name}={self._value(name, value)}" for name, value in _extras(record))
        return super().formatMessage(record) + "".join(extras)

    def _value(self, name: str, value: Any) -> str:
        if name in PRIVATE:
            return REDACTED
        # Before it is quoted: a quoted secret looks different.
        text = self._redacted(str(value))
        plain = text and text.isprintable() and not any(c in text for c in ' "=')
        return text if plain else json.dumps(text, ensure_ascii=False)

    def _redacted(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        return _MADE.sub(rf"\1{REDACTED}", text)


def _extras(record: logging.LogRecord) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in vars(record).items() if name not in _STANDARD and name[0] != "_"]


def setup(settings: Settings, *secrets: str) -> None:
    """Send every logger's records to standard error, in graycat's form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EventFormatter(settings.secrets + secrets))
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    for name, least in LEAST_LEVELS.items():
        logging.getLogger(name).setLevel(max(level, least))
    logging.basicConfig(handlers=[handler], level=level, force=True)
