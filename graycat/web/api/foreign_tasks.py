"""Tasks of other callers, for admins: where they are and how they fare.

What is asked and answered in them is shown only to an admin whose API token has the scope ``inspect`` as well.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Sequence
from typing import Any

from flask import g

from graycat.auth.tokens import ADMIN, INSPECT, PLAYER_MARK
from graycat.bounds.stored import parse_json
from graycat.broker import keys
from graycat.errors import RequestError
from graycat.families import FAMILIES
from graycat.queue.errors import TaskNotFound
from graycat.queue.ids import TASK_ID
from graycat.web.api import task_views
from graycat.web.api.task_views import Record
from graycat.web.auth import require_scope
from graycat.web.services import services

logger = logging.getLogger(__name__)

#: Stands for the tasks of everybody, and behind ``NAME/`` for those of all players of an API token.
ANYBODY = "*"
#: The longest name of an owner: that of an API token, and that of its player.
MAX_OWNER_CHARS = 150
#: What of a task has nothing in it that its owner has written or got; a request's id may be the owner's own text.
SHOWN = (
    *("id", "kind", "state", "queue", "priority", "worker", "engine", "attempt", "size"),
    *("submitted_ms", "started_ms", "first_event_ms", "finished_ms", "timings", "links"),
)


def is_foreign(record: Record) -> bool:
    """Return whether a task belongs to another caller."""
    return bool(record.get("owner") != g.owner)


def find_visible_task(task_id: str) -> tuple[str, Record]:
    """Return id and record of the caller's task; for an admin of anybody's, by its own id.

    Raises TaskNotFound, TaskGone.
    """
    try:
        return task_views.find_task(task_id)
    except TaskNotFound:
        if not g.token.admin or not TASK_ID.fullmatch(task_id):
            raise
    record = task_views.read_record(services().gateway.records, task_id)
    if "owner" not in record:
        raise TaskNotFound
    # Others know it by the id alone.
    record.pop("alias", None)
    return task_id, record


def find_readable_task(task_id: str) -> tuple[str, Record]:
    """Return id and record of a task whose answer the caller may read.

    Raises TaskNotFound, TaskGone; Forbidden for an admin without the scope ``inspect``.
    """
    task_id, record = find_visible_task(task_id)
    if is_foreign(record):
        require_scope(INSPECT)
        logger.warning("task inspected", extra={"task_id": task_id, "owner": record["owner"], "by": g.owner})
    return task_id, record


def view(task_id: str, record: Record, *, whole: bool = True) -> dict[str, Any]:
    """Return a task as JSON, as far as the caller may see it; ``whole`` as in ``task_views.task_view``."""
    if not is_foreign(record):
        return task_views.task_view(task_id, record, whole=whole)
    # Where an owner has its events sent is nobody's business, and its address may hold a password.
    readable = {name: value for name, value in record.items() if name not in ("webhook", "alias")}
    if INSPECT in g.token.scopes:
        shown = task_views.task_view(task_id, readable, whole=whole)
        if whole:
            body = services().gateway.records.body(task_id)
            shown["input"] = _parse_body(body)
            logger.warning("task inspected", extra={"task_id": task_id, "owner": record["owner"], "by": g.owner})
    else:
        shown = _bare_view(task_id, readable)
    return shown | {"owner": record["owner"]}


def _parse_body(body: bytes | None) -> Any:
    """Return what a task's engine was asked; None if it is not kept, or if another program has written over it."""
    if body is None:
        return None
    try:
        return parse_json(body)
    except ValueError:
        return None


def _bare_view(task_id: str, record: Record) -> dict[str, Any]:
    every = task_views.task_view(task_id, record, whole=False)
    shown = {name: every[name] for name in SHOWN if name in every}
    if record.get("status", "").isdecimal():
        shown["status"] = int(record["status"])
    return shown


class TaskList:
    """The tasks of one owner, of all its players, or of everybody; newest first.

    Of an owner: those that may be looked at by their ids, and all that are not over. Of players and everybody: all that
    are not over.
    """

    def __init__(self, owner: str | None) -> None:
        """``owner`` as the caller names it: None for its own tasks. Raises Forbidden, RequestError."""
        self._owner: str = g.owner if owner is None else owner
        self._keys: Sequence[str] = (keys.listed_key(self._owner),)
        if self._owner == g.owner:
            return
        require_scope(ADMIN)
        if not 0 < len(self._owner) <= MAX_OWNER_CHARS:
            raise RequestError("'owner' must be the name of an API token, 'NAME/PLAYER', 'NAME/*' or '*'")
        name, mark, player = self._owner.partition(PLAYER_MARK)
        if self._owner == ANYBODY:
            self._keys = [keys.live_key(family.name) for family in FAMILIES]
        elif mark and player == ANYBODY:
            self._keys = [keys.players_key(family.name, name) for family in FAMILIES]
        else:
            self._keys = [keys.listed_key(self._owner)]
            self._keys += [keys.owned_key(family.name, self._owner) for family in FAMILIES]

    def read(self, before: tuple[int, str], count: int) -> list[tuple[str, int]]:
        """Return ids and submit times (ms) of at most ``count`` tasks after the one ``before``."""
        records = services().gateway.records
        found: set[tuple[str, int]] = set()
        for key in self._keys:
            found.update(records.list_ids(key, before, count))
        return heapq.nlargest(count, found, key=lambda row: (row[1], row[0]))
