"""Messages as a worker takes them from a queue: checked, and made anew of the two words in them that count.

Whoever may write to a queue may write any message, and Celery acts on much of one before its task runs: it calls other
tasks (callbacks, errbacks, chains, chords), holds a task back (``eta``), discards it (``expires``), and shows what a
message says of its arguments. So nothing of a message is used but its kind and its task's id.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from graycat import families
from graycat.queue import ids
from graycat.queue.kinds import DELIVER, FIRE_SCHEDULES
from graycat.queue.names import base_queue
from graycat.queue.topology import CONTROL, QUEUES

#: The name of a kind, also of one of a newer release.
_KIND = re.compile(r"[a-z]{1,32}\.[a-z0-9_]{1,64}")
_DELIVERY = re.compile(r"[0-9A-Za-z._-]{1,100} [a-z]{1,32}")
_TAG = re.compile(r"[0-9A-Za-z-]{1,64}")
#: What makes Celery call other tasks.
_CALLS = ("callbacks", "errbacks", "chain", "chord")
_BODY = '[[%s], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
_QUEUES = frozenset(QUEUES)


class ForgedMessage(ValueError):
    """Raised for a message that none of graycat's processes can have put on its queue."""


def purify(message: dict[str, Any], queue: str) -> dict[str, Any]:
    """Return the message that graycat itself would have put on a queue for the same task.

    What comes over other ways than a queue of tasks is returned unchanged. Raises ForgedMessage.
    """
    base = base_queue(queue)
    if base not in _QUEUES:
        return message
    headers = message.get("headers")
    if not isinstance(headers, dict):
        raise ForgedMessage("a message has headers")
    kind, tag = headers.get("task"), message["properties"]["delivery_tag"]
    if not isinstance(kind, str) or not _KIND.fullmatch(kind) or not _TAG.fullmatch(tag):
        raise ForgedMessage("a message has the name of a kind, and a tag")
    argument = _read_argument(message, headers)
    task_id = _check(kind, argument, headers.get("id"), base)
    return _make(message, kind, task_id, argument, queue)


def _read_argument(message: dict[str, Any], headers: dict[str, Any]) -> str | None:
    """Return the argument of a message, None if it has none. Raises ForgedMessage."""
    body = message.get("body")
    task_id = headers.get("id")
    # Nearly every message is one of ours; then its body need not be read.
    if isinstance(task_id, str) and body == _encode(task_id):
        return task_id
    try:
        arguments, _, options = json.loads(base64.b64decode(str(body), validate=True))
        for part in (options or {}, headers):
            if any(part.get(name) for name in _CALLS):
                raise ForgedMessage("a message calls no other tasks")
        if not arguments:
            return None
        first = arguments[0]
    except ForgedMessage:
        raise
    except Exception as error:
        raise ForgedMessage("a body is arguments, named arguments and options") from error
    if not isinstance(first, str):
        raise ForgedMessage("an argument is a text")
    return first


def _check(kind: str, argument: str | None, header_id: object, queue: str) -> str:
    """Return the id of a message's task. Raises ForgedMessage if such a message does not belong into the queue."""
    if queue == CONTROL:
        if kind == FIRE_SCHEDULES.name and argument is None and isinstance(header_id, str):
            return header_id[:64]
        if kind == DELIVER.name and argument is not None and _DELIVERY.fullmatch(argument):
            return argument
        raise ForgedMessage("no message for a control worker")
    if argument is None or not ids.TASK_ID.fullmatch(argument):
        raise ForgedMessage("a task has an id")
    family = families.find_by_kind(queue)
    if family is not families.find_by_kind(kind) or family is not ids.family_of(argument):
        raise ForgedMessage("a task of another family")
    return argument


def _encode(argument: str | None) -> str:
    """Return the body of a message. What an argument must be, it needs no escapes in JSON."""
    quoted = "" if argument is None else f'"{argument}"'
    return base64.b64encode((_BODY % quoted).encode()).decode()


def _make(message: dict[str, Any], kind: str, task_id: str, argument: str | None, queue: str) -> dict[str, Any]:
    return {
        "body": _encode(argument),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": kind,
            "id": task_id,
            "root_id": task_id,
            "parent_id": None,
            "group": None,
            "shadow": None,
            "eta": None,
            "expires": None,
            "retries": 0,
            "timelimit": [None, None],
            "argsrepr": f"['{task_id}']",
            "kwargsrepr": "{}",
            "origin": "",
            "ignore_result": True,
            "redelivered": message["headers"].get("redelivered") is True,
        },
        "properties": {
            "correlation_id": task_id,
            "reply_to": "",
            "delivery_mode": 2,
            # Where it goes if it is handed back: not where it says that it came from.
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": message["properties"]["delivery_tag"],
        },
    }
