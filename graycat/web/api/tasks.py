"""Tasks over REST: submit, show, wait, list, cancel and retry."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, g, jsonify, request
from flask.typing import ResponseReturnValue

from graycat.errors import GraycatError, RequestError, TaskLost
from graycat.loops.unexpected import guarded
from graycat.params import MAX_WAIT_S
from graycat.queue import ids as taskids
from graycat.queue.errors import IdempotencyConflict, NotRetryable
from graycat.queue.kinds import KINDS
from graycat.queue.models import TERMINAL_STATES, UNSUCCESSFUL_STATES
from graycat.web.api import foreign_tasks, task_views
from graycat.web.api.followers import wait_for_end
from graycat.web.api.task_requests import (
    TaskRequest,
    digest,
    fit_stored_body,
    parse_task_request,
    read_task_object,
    require_scopes,
    scoped_ids,
)
from graycat.web.auth import token_auth
from graycat.web.encoding import JsonWriter
from graycat.web.limits import enforce_limits
from graycat.web.services import services
from graycat.web.streaming.requests import Submission
from graycat.web.streaming.responses import preferences

logger = logging.getLogger(__name__)

bp = Blueprint("tasks", __name__)

#: Seconds that a cancel waits for the engine to stop.
CANCEL_TIMEOUT_S = 2.0
#: Tasks on one page of the list.
DEFAULT_PAGE_SIZE = 20
MAX_PAGE_SIZE = 100
#: The cursor before the newest task: a submit time (ms) in the far future, and an id.
START_CURSOR = (10**15, "")
#: Characters of a cursor that is still accepted.
MAX_CURSOR_CHARS = 99
#: Tasks that are read at most to fill one page of the list, if the caller asks for some states or kinds only.
MAX_SCANNED = 1000


@bp.post("/tasks")
@token_auth.login_required
def submit() -> ResponseReturnValue:
    """Submit a task: 202 with its address, or 200 with its answer if it ends within ``Prefer: wait=N``."""
    return _submit(parse_task_request(*read_task_object()), _ids_of_key(), alias="")


@bp.put("/tasks/<chosen_id>")
@token_auth.login_required
def put(chosen_id: str) -> ResponseReturnValue:
    """Submit a task under an id that the caller chooses. Repeating it returns the same task; another is refused."""
    task_request = parse_task_request(*read_task_object())
    return _submit(task_request, scoped_ids(g.owner, chosen_id), alias=chosen_id)


def _ids_of_key() -> dict[str, str]:
    """Return the task ids that the request's ``Idempotency-Key`` stands for; empty if it has no key."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return {}
    return scoped_ids(g.owner, key, space="key")


def _submit(task_request: TaskRequest, ids: dict[str, str], alias: str) -> ResponseReturnValue:
    """Submit a task under one of ``ids`` (by family of kinds), or under a new id if there are none.

    Raises IdempotencyConflict if another task has the key or the name.
    """
    # Before anything is written: a request that is refused leaves no task behind.
    wait_s = _preferred_wait_s()
    services().require_engine(task_request.submission.kind.family)
    task_id, is_new = _create(task_request, ids, alias)
    g.task_id = task_id
    record = services().gateway.records.get(task_id)
    if not is_new and record.get("digest") != task_request.digest:
        raise IdempotencyConflict
    if wait_s:
        record = _wait_until_terminal(task_id, record, wait_s)
    # Of a new task only a caller that waited for it reads 200: without that, 200 says that the task was known.
    answered = wait_s and record.get("state") in TERMINAL_STATES
    return _task_response(task_id, record, accepted=is_new and not answered)


def _create(task_request: TaskRequest, ids: dict[str, str], alias: str) -> tuple[str, bool]:
    """Create a task, unless its key or name has one; return the id, and whether it is new.

    Raises IdempotencyConflict if a task of another family has the key or the name.
    """
    gateway = services().gateway
    # The caller's task that has the name as its id is found first under that: another one could not be reached.
    if alias and gateway.records.get(alias).get("owner") == g.owner:
        return alias, False
    fields = dict(task_request.submission.shown or {})
    fields["digest"] = task_request.digest
    if alias:
        fields["alias"] = alias
    kind = task_request.submission.kind.name
    task_id = ids.get(KINDS[kind].family.name) or taskids.new_task_id(kind)
    # The same key or chosen id with a kind of another family is a different request, too.
    rivals = tuple(other for other in ids.values() if other != task_id)
    with enforce_limits(task_id):
        return gateway.enqueue(replace(task_request.submission, shown=fields, rivals=rivals), task_id)


def _task_response(task_id: str, record: task_views.Record, *, accepted: bool) -> Response:
    if not record:
        raise TaskLost
    response = jsonify(task_views.task_view(task_id, record))
    if accepted:
        response.status_code = 202
    response.headers["Location"] = task_views.links(record.get("alias") or task_id, record)["self"]
    return _add_polling_headers(response, record)


def _add_polling_headers(response: Response, record: task_views.Record) -> Response:
    response.headers["ETag"] = task_views.etag(record)
    response.headers["Cache-Control"] = "private, no-cache"
    retry_after_s = task_views.retry_after_s(record)
    if retry_after_s:
        response.headers["Retry-After"] = str(retry_after_s)
    return response


def _preferred_wait_s() -> float:
    for preference in preferences():
        name, _, value = preference.partition("=")
        if name.strip() == "wait":
            return _parse_wait_s(value.strip())
    return 0.0


def _parse_wait_s(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        raise RequestError("'wait' must be a number of seconds") from None
    if not 0 <= seconds <= MAX_WAIT_S:
        raise RequestError(f"'wait' must be from 0 to {MAX_WAIT_S:.0f} seconds")
    return seconds


def _wait_until_terminal(task_id: str, record: task_views.Record, wait_s: float) -> task_views.Record:
    """Wait until a task has ended, ``wait_s`` seconds at most; return its record then."""
    if record.get("state") not in TERMINAL_STATES:
        wait_for_end(task_id, wait_s)
    return services().gateway.records.get(task_id)


@bp.get("/tasks/<task_id>")
@token_auth.login_required
def show(task_id: str) -> ResponseReturnValue:
    """Show a task, with its answer if it has ended. ``wait=N`` delays the reply until then, N seconds at most."""
    wait_s = 0.0
    wait = request.args.get("wait")
    if wait is not None:
        wait_s = _parse_wait_s(wait)
    task_id, record = foreign_tasks.find_visible_task(task_id)
    if wait_s:
        record = _wait_until_terminal(task_id, record, wait_s) or record
    # contains_weak: a proxy that compresses answers turns the tag into a weak one.
    if request.if_none_match.contains_weak(task_views.etag(record).strip('"')):
        return _add_polling_headers(Response(status=304), record)
    return _add_polling_headers(jsonify(foreign_tasks.view(task_id, record)), record)


@bp.get("/tasks")
@token_auth.login_required
def listing() -> ResponseReturnValue:
    """List the caller's tasks, newest first: by ``state`` and ``kind``, ``limit`` a page, the next by ``cursor``.

    Admins also list those of another ``owner``.
    """
    tasks = foreign_tasks.TaskList(request.args.get("owner"))
    states = set(request.args.getlist("state"))
    kinds = set(request.args.getlist("kind"))
    limit = _parse_limit(request.args.get("limit"))
    position = _parse_cursor(request.args.get("cursor"))
    records = services().gateway.records
    page: list[dict[str, Any]] = []
    scanned = 0
    more = True

    while more and len(page) < limit and scanned < MAX_SCANNED:
        rows = tasks.read(position, MAX_PAGE_SIZE)
        more = len(rows) == MAX_PAGE_SIZE
        for task_id, submitted_ms in rows:
            position = (submitted_ms, task_id)
            scanned += 1
            # A damaged record keeps no other from being listed.
            with guarded("tasks", let_through=(GraycatError,)):
                record = records.get(task_id)
                if _matches(record, states, kinds):
                    page.append(foreign_tasks.view(task_id, record, whole=False))
            if len(page) == limit:
                more = True
                break

    next_cursor = None
    if more:
        next_cursor = f"{position[0]}-{position[1]}"
    return jsonify(tasks=page, next_cursor=next_cursor)


def _matches(record: task_views.Record, states: set[str], kinds: set[str]) -> bool:
    """Return whether a record still exists and has one of the states and kinds; an empty set means any."""
    if not record:
        return False
    if states and record["state"] not in states:
        return False
    return not kinds or task_views.kind_of(record) in kinds


def _parse_limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_PAGE_SIZE
    is_number = text.isascii() and text.isdecimal() and len(text) <= 10
    if not is_number or not 1 <= int(text) <= MAX_PAGE_SIZE:
        raise RequestError(f"'limit' must be from 1 to {MAX_PAGE_SIZE}")
    return int(text)


def _parse_cursor(text: str | None) -> tuple[int, str]:
    """Return the submit time (ms) and the id of the last task on the page before."""
    if text is None:
        return START_CURSOR
    submitted_ms, dash, task_id = text.partition("-")
    if not (submitted_ms.isascii() and submitted_ms.isdecimal() and dash and len(text) <= MAX_CURSOR_CHARS):
        raise RequestError("'cursor' must be the 'next_cursor' of the page before")
    return int(submitted_ms), task_id


@bp.delete("/tasks/<task_id>")
@bp.post("/tasks/<task_id>/cancel", endpoint="cancel_post")
@token_auth.login_required
def cancel(task_id: str) -> ResponseReturnValue:
    """Cancel a task; may be repeated. ``confirmed`` is whether its engine has stopped. Admins cancel anybody's."""
    task_id, record = foreign_tasks.find_visible_task(task_id)
    if foreign_tasks.is_foreign(record):
        logger.warning(
            "task cancelled by an admin", extra={"task_id": task_id, "owner": record["owner"], "by": g.owner}
        )
    gateway = services().gateway
    if record["state"] not in TERMINAL_STATES:
        gateway.cancel(task_id, kind=record["kind"])
        wait_for_end(task_id, CANCEL_TIMEOUT_S)
        record = gateway.records.get(task_id) or record
    view = foreign_tasks.view(task_id, record, whole=False)
    view["confirmed"] = record["state"] in TERMINAL_STATES
    return _add_polling_headers(jsonify(view), record)


@bp.post("/tasks/<task_id>/retry")
@token_auth.login_required
def retry(task_id: str) -> ResponseReturnValue:
    """Submit a task that failed, was cancelled or expired again, as a new one."""
    task_id, record = task_views.find_task(task_id)
    body = services().gateway.records.body(task_id)
    # Only a newer release can submit one of a kind that is not known here.
    if record["state"] not in UNSUCCESSFUL_STATES or body is None or record["kind"] not in KINDS:
        raise NotRetryable(record["state"])
    require_scopes(record["kind"], record.get("priority", ""))
    body = fit_stored_body(record["kind"], body)
    fields = {name: record[name] for name in ("priority", "metadata", "workflow") if record.get(name)}
    fields["retry_of"] = record.get("alias") or task_id
    submission = Submission(
        kind=KINDS[record["kind"]],
        queue=record["queue"],
        mode=record["mode"],
        body=body,
        owner=g.owner,
        request_id=g.request_id,
        queue_ttl_s=int(record["queue_ttl_ms"]) / 1000,
        exec_timeout_s=int(record["exec_timeout_ms"]) / 1000,
        shown=fields,
        webhook=services().hooks.read(task_id),
    )
    return _submit(TaskRequest(submission, digest({"retry_of": task_id}, JsonWriter())), _ids_of_key(), alias="")
