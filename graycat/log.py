"""Logging: one line per event, followed by ``key=value`` pairs; without secrets, prompts and outputs."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from textwrap import indent
from typing import Any

from graycat.redaction.terminal import one_line, printable
from graycat.settings import Settings

#: API tokens that graycat has made: minted ones after their public part, and players' tokens.
_GENERATED_TOKEN = re.compile(r"\b(gc_[a-z0-9]{8}_|gp_)[\w.-]{20,}", re.ASCII)
#: Fields whose values are never written.
PRIVATE = frozenset(
    {
        *("prompt", "content", "messages", "body"),
        *("authorization", "x-api-key", "x_api_key", "api_key", "token", "api_token", "password"),
    }
)
REDACTED = "[redacted]"

#: Minimum levels of libraries that write a line or two per task beside ours, or whole messages when they debug.
MIN_LEVELS = {
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
#: Loggers of libraries whose lines tell of what goes as it should: a start, a queue that is joined. Only DEBUG has
#: them; graycat's own line says when a process is ready.
ROUTINE = {
    "celery.apps.worker": logging.WARNING,
    "celery.worker.consumer": logging.WARNING,
    "flower.inspector": logging.ERROR,  # while no worker answers yet
    "gunicorn.error": logging.WARNING,
    "kombu.mixins": logging.WARNING,
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
        return printable(self._redact(super().format(record)))

    def formatException(self, ei: Any) -> str:  # noqa: N802 (the name in logging.Formatter)
        """Return a traceback, indented: a message with line feeds cannot look like a record."""
        return indent(super().formatException(ei), "  ")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the name in logging.Formatter)
        """Return the line without a traceback; nothing in it can begin another line or another field."""
        record.message = one_line(record.message)
        line = super().formatMessage(record)
        for name, value in vars(record).items():
            if name not in _STANDARD and not name.startswith("_"):
                line += f" {name}={self._format_value(name, value)}"
        return line

    def _format_value(self, name: str, value: Any) -> str:
        if name in PRIVATE:
            return REDACTED
        # Redacted before it is quoted: a quoted secret looks different.
        text = self._redact(str(value))
        if not text or not text.isprintable() or any(character in text for character in ' "='):
            return json.dumps(text, ensure_ascii=False)
        return text

    def _redact(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        return _GENERATED_TOKEN.sub(rf"\1{REDACTED}", text)


def setup(settings: Settings, *secrets: str) -> None:
    """Write the records of all loggers to standard error, in graycat's format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EventFormatter(settings.secrets + secrets))
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    min_levels = MIN_LEVELS | ROUTINE
    if level <= logging.DEBUG:
        min_levels = dict.fromkeys(ROUTINE, level) | MIN_LEVELS
    for name, min_level in min_levels.items():
        logging.getLogger(name).setLevel(max(level, min_level))
    logging.basicConfig(handlers=[handler], level=level, force=True)
