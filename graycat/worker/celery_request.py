"""Celery's request of a task, as graycat's workers make one for each message that they take."""

from __future__ import annotations

from typing import Any

from celery.worker.request import Request

#: Headers with which a message tells a worker when to run its task, and for how long.
CLOCK_HEADERS = ("eta", "expires", "timelimit")


class RecordRequest(Request):
    """A request whose task is held back, discarded or ended by its record alone.

    Celery would discard a task that its worker remembers as revoked, or whose message has expired, and tell nobody: the
    record would go on to say queued, the turn of its owner would not pass on, and the sweeper would enqueue it again
    for the same worker to discard. It would keep a message with an ``eta`` in memory, where nothing renews its lease.
    Only messages of other programs have such headers.
    """

    def __init__(self, message: Any, headers: dict[str, Any] | None = None, **options: Any) -> None:
        if headers is None:
            headers = message.headers
        if any(headers.get(name) for name in CLOCK_HEADERS):
            headers = headers | dict.fromkeys(CLOCK_HEADERS)
        super().__init__(message, headers=headers, **options)
        body = options.get("body")
        if not options.get("decoded"):
            body = message.payload
        check_body(body)

    def revoked(self) -> bool:
        """Return False. A task that is revoked has ended, by its record (``worker/celery_commands.py``)."""
        return False


def check_body(body: Any) -> None:
    """Raise ValueError if the body of a message is not arguments, named arguments and options.

    Celery would find that out in the task's thread and never hear of the task again: its slot would be taken for ever.
    """
    _, _, options = body
    if options is not None and not isinstance(options, dict):
        raise ValueError("the options of a message are an object")
