"""graycat's own REST: submit a task, look at it, wait for it, cancel it, try it again."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, g, jsonify, request
from flask.typing import ResponseReturnValue

from graycat import params
from graycat.errors import RequestError, TaskLost
from graycat.queue import ids as taskids
from graycat.queue.errors import IdempotencyConflict, NotRetryable
from graycat.queue.kinds import KINDS
from graycat.queue.models import TERMINAL_STATES
from graycat.web.api import task_views
from graycat.web.api.followers import Follower
from graycat.web.api.task_requests import Wanted, digest, read, require_scopes, scoped_ids
from graycat.web.auth import token_auth
from graycat.web.compat.image_tasks import take_large_body
from graycat.web.compat.route import read_raw
from graycat.web.limits import admitted
from graycat.web.services import services
from graycat.web.streaming.requests import Submission, TaskGateway
from graycat.web.streaming.responses import preferences

bp = Blueprint("tasks", __name__)
bp.before_request(take_large_body)

#: A long poll waits this many seconds at most.
MAX_WAIT_S = 300.0
#: A cancel waits this many seconds for the engine to let go.
CONFIRM_S = 2.0
#: Tasks on one page of the list.
PAGE, MAX_PAGE = 20, 100
#: A cursor in front of all tasks, and the length that no cursor has.
NEWEST, MAX_CURSOR = (10**15, ""), 100
#: How many ids of the list are looked at for a page of tasks with a certain state or kind.
MAX_LOOKED_AT = 1000


def _office() -> TaskGateway:
    found: TaskGateway = services().gateway
    return found


@bp.post("/tasks")
@token_auth.login_required
def submit() -> ResponseReturnValue:
    """Accept a task: 202 with its address; 200 with its answer where ``Prefer: wait=N`` saw it end in time."""
    return _accepted(read(params.read_object(read_raw())), _keyed_ids(), alias="")


@bp.put("/tasks/<chosen>")
@token_auth.login_required
def put(chosen: str) -> ResponseReturnValue:
    """Accept a task under an id of the caller's: the same again is the same task, another one is refused."""
    wanted = read(params.read_object(read_raw()))
    return _accepted(wanted, scoped_ids(g.owner, chosen), alias=chosen)


def _keyed_ids() -> dict[str, str]:
    """Return the task ids that the request's ``Idempotency-Key`` stands for; none where it has no key."""
    key = request.headers.get("Idempotency-Key")
    return {} if key is None else scoped_ids(g.owner, key, space="key")


def _accepted(wanted: Wanted, ids: dict[str, str], alias: str) -> ResponseReturnValue:
    fields = dict(wanted.submission.shown or {}) | {"digest": wanted.digest} | ({"alias": alias} if alias else {})
    kind = wanted.submission.kind.name
    task_id = ids.get(KINDS[kind].family.name) or taskids.new_task_id(kind)
    # The same name for work of another family is another request, too.
    if any(_office().records.exists(other) for other in ids.values() if other != task_id):
        raise IdempotencyConflict
    with admitted(task_id):
        _, new = _office().enqueue(replace(wanted.submission, shown=fields), task_id)
    g.task_id = task_id
    record = _office().records.get(task_id)
    if not new and record.get("digest") != wanted.digest:
        raise IdempotencyConflict
    if wait_s := _preferred_wait():
        record = _waited(task_id, record, wait_s)
    return _answer(task_id, record, created=new)


def _answer(task_id: str, record: task_views.Record, *, created: bool) -> Response:
    if not record:
        raise TaskLost
    ended = record["state"] in TERMINAL_STATES
    response = jsonify(task_views.shown(task_id, record))
    response.status_code = 200 if ended or not created else 202
    response.headers["Location"] = task_views.links(record.get("alias") or task_id, record)["self"]
    return _tagged(response, record)


def _tagged(response: Response, record: task_views.Record) -> Response:
    response.headers["ETag"] = task_views.etag(record)
    response.headers["Cache-Control"] = "private, no-cache"
    if after_s := task_views.retry_after_s(record):
        response.headers["Retry-After"] = str(after_s)
    return response


def _preferred_wait() -> float:
    for preference in preferences():
        name, _, value = preference.partition("=")
        if name.strip() == "wait":
            return _bounded(value.strip())
    return 0.0


def _bounded(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        raise RequestError("'wait' must be a number of seconds") from None
    if not 0 <= seconds <= MAX_WAIT_S:
        raise RequestError(f"'wait' must be from 0 to {MAX_WAIT_S:.0f} seconds")
    return seconds


def _waited(task_id: str, record: task_views.Record, wait_s: float) -> task_views.Record:
    """Return a task's record when it has changed its state, or the time is up; its end where it runs already."""
    deadline = time.monotonic() + wait_s
    with Follower(task_id) as follower:
        while record.get("state") not in TERMINAL_STATES:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or follower.ended(left_s):
                break
        return _office().records.get(task_id)


@bp.get("/tasks/<task_id>")
@token_auth.login_required
def show(task_id: str) -> ResponseReturnValue:
    """Tell a task's state, and its answer at the end. ``wait=N`` holds the reply back until then, N seconds at most."""
    task_id, record = task_views.find(task_id)
    if wait := request.args.get("wait"):
        record = _waited(task_id, record, _bounded(wait)) or record
    # A proxy that compresses makes the tag a weak one.
    if request.if_none_match.contains_weak(task_views.etag(record).strip('"')):
        return _tagged(Response(status=304), record)
    return _tagged(jsonify(task_views.shown(task_id, record)), record)


@bp.get("/tasks")
@token_auth.login_required
def listing() -> ResponseReturnValue:
    """List the caller's tasks, newest first: by ``state`` and ``kind``, ``limit`` a page, the next by ``cursor``."""
    states, kinds = set(request.args.getlist("state")), set(request.args.getlist("kind"))
    limit = _count(request.args.get("limit"))
    before = _cursor(request.args.get("cursor"))
    records, looked_at = _office().records, 0
    page: list[dict[str, Any]] = []
    more = True
    while more and len(page) < limit and looked_at < MAX_LOOKED_AT:
        rows = records.listed(g.owner, before, MAX_PAGE)
        more = len(rows) == MAX_PAGE
        for task_id, submitted_ms in rows:
            before, looked_at = (submitted_ms, task_id), looked_at + 1
            record = records.get(task_id)
            if record and (not states or record["state"] in states) and (not kinds or record["kind"] in kinds):
                page.append(task_views.shown(task_id, record, whole=False))
                if len(page) == limit:
                    more = True
                    break
    return jsonify(tasks=page, next_cursor=f"{before[0]}-{before[1]}" if more else None)


def _count(text: str | None) -> int:
    if text is None:
        return PAGE
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PAGE:
        raise RequestError(f"'limit' must be from 1 to {MAX_PAGE}")
    return int(text)


def _cursor(text: str | None) -> tuple[int, str]:
    """Return the submit time (ms) and the id of the last task on the page before."""
    if text is None:
        return NEWEST
    submitted_ms, dash, task_id = text.partition("-")
    if not (submitted_ms.isdecimal() and dash and len(text) < MAX_CURSOR):
        raise RequestError("'cursor' must be the 'next_cursor' of the page before")
    return int(submitted_ms), task_id


@bp.delete("/tasks/<task_id>")
@bp.post("/tasks/<task_id>/cancel", endpoint="cancel_post")
@token_auth.login_required
def cancel(task_id: str) -> ResponseReturnValue:
    """Cancel a task, however often; ``confirmed`` tells whether its engine is free of it."""
    task_id, record = task_views.find(task_id)
    if record["state"] not in TERMINAL_STATES:
        _office().cancel(task_id, kind=record["kind"])
        with Follower(task_id) as follower:
            follower.ended(CONFIRM_S)
        record = _office().records.get(task_id) or record
    view = task_views.shown(task_id, record, whole=False)
    return _tagged(jsonify(view | {"confirmed": record["state"] in TERMINAL_STATES}), record)


@bp.post("/tasks/<task_id>/retry")
@token_auth.login_required
def retry(task_id: str) -> ResponseReturnValue:
    """Submit a task again that failed, was cancelled or expired, as a new one."""
    task_id, record = task_views.find(task_id)
    body = _office().records.body(task_id)
    if record["state"] not in TERMINAL_STATES - {"succeeded"} or body is None:
        raise NotRetryable(record["state"])
    require_scopes(record["kind"], record.get("priority", ""))
    fields = {name: record[name] for name in ("priority", "metadata", "webhook") if record.get(name)}
    submission = Submission(
        kind=KINDS[record["kind"]],
        queue=record["queue"],
        mode=record["mode"],
        body=body,
        owner=g.owner,
        request_id=g.request_id,
        queue_ttl_s=int(record["queue_ttl_ms"]) / 1000,
        exec_timeout_s=int(record["exec_timeout_ms"]) / 1000,
        shown=fields | {"retry_of": record.get("alias") or task_id},
    )
    return _accepted(Wanted(submission, digest({"retry_of": task_id})), _keyed_ids(), alias="")
