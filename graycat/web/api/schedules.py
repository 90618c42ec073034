"""Schedules over HTTP: batches by the clock."""

from __future__ import annotations

import re
from functools import partial
from uuid import uuid4

from flask import Blueprint, Response, g, jsonify, request
from flask.typing import ResponseReturnValue

from graycat import params
from graycat.auth.tokens import ADMIN, BATCH, LLM, SD
from graycat.schedules.definition import Schedule
from graycat.schedules.errors import InvalidSchedule
from graycat.schedules.records import ScheduleRecords
from graycat.web.auth import require_scope, scope_required, token_auth
from graycat.web.compat.image_tasks import run_in_thread
from graycat.web.compat.route import read_raw
from graycat.web.limits import token_max_pixels
from graycat.web.services import services

bp = Blueprint("schedules", __name__)

#: Coming times that one answer has.
USUAL_NEXT, MOST_NEXT = 5, 100
#: What a caller may call a run by hand.
RUN = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def _records() -> ScheduleRecords:
    found: ScheduleRecords = services().schedules
    return found


def _owner() -> str:
    """Return whose schedules are meant: the caller's own, or those of the ``owner`` that an admin names."""
    owner = request.args.get("owner")
    if owner is None or owner == g.owner:
        return str(g.owner)
    require_scope(ADMIN)
    if not owner or ":" in owner:
        raise InvalidSchedule("'owner' must be the name of an API token")
    return owner


def _read(**fields: str) -> Schedule:
    """Return the schedule that the request's body asks for. Raises RequestError."""
    # Its batches make images.
    require_scope(SD)
    body = params.read_object(read_raw()) | fields
    settings = services().settings
    schedule = run_in_thread(partial(Schedule.read, body, _owner(), settings, token_max_pixels()))
    if schedule.spec.get("prompts") is not None:
        # A text engine writes them.
        require_scope(LLM)
    return schedule


def _kept(schedule: Schedule, *, replace: bool) -> Response:
    done = _records().put(schedule, replace=replace)
    response = jsonify(_records().get(schedule.owner, schedule.name))
    response.status_code = 201 if done == "new" else 200
    response.headers["Location"] = f"/schedules/{schedule.name}"
    return response


@bp.post("/schedules")
@token_auth.login_required
@scope_required(BATCH)
def add() -> ResponseReturnValue:
    """Add a schedule; the same again is the same schedule, another one of its name is refused."""
    return _kept(_read(), replace=False)


@bp.put("/schedules/<name>")
@token_auth.login_required
@scope_required(BATCH)
def put(name: str) -> ResponseReturnValue:
    """Add a schedule, or replace the one that has the name."""
    return _kept(_read(name=name), replace=True)


@bp.get("/schedules")
@token_auth.login_required
@scope_required(BATCH)
def listing() -> ResponseReturnValue:
    """List the caller's schedules by their names."""
    owner = _owner()
    return jsonify(schedules=_records().list(None if owner == "*" else owner))


@bp.get("/schedules/<name>")
@token_auth.login_required
@scope_required(BATCH)
def show(name: str) -> ResponseReturnValue:
    """Show a schedule, with how its last times went."""
    return jsonify(_records().get(_owner(), name))


@bp.get("/schedules/<name>/next")
@token_auth.login_required
@scope_required(BATCH)
def coming(name: str) -> ResponseReturnValue:
    """Tell a schedule's coming times, in its zone."""
    text = request.args.get("count", str(USUAL_NEXT))
    if not re.fullmatch(r"\d{1,3}", text, re.ASCII) or not 1 <= int(text) <= MOST_NEXT:
        raise InvalidSchedule(f"'count' must be from 1 to {MOST_NEXT}")
    schedule = _records().load_definition(_owner(), name)
    return jsonify(timezone=schedule.timezone, times=_records().list_next(schedule.owner, name, int(text)))


@bp.post("/schedules/<name>/pause")
@token_auth.login_required
@scope_required(BATCH)
def pause(name: str) -> ResponseReturnValue:
    """Have a schedule fire nothing until it is resumed; its batches go on."""
    return jsonify(_records().pause(_owner(), name))


@bp.post("/schedules/<name>/resume")
@token_auth.login_required
@scope_required(BATCH)
def resume(name: str) -> ResponseReturnValue:
    """Have a paused schedule fire again; times that came meanwhile are left out."""
    return jsonify(_records().resume(_owner(), name))


@bp.post("/schedules/<name>/run")
@token_auth.login_required
@scope_required(BATCH)
def run(name: str) -> ResponseReturnValue:
    """Submit a schedule's batch now; the same ``Idempotency-Key`` again is the same batch."""
    require_scope(SD)
    key = request.headers.get("Idempotency-Key")
    if key is not None and not RUN.fullmatch(key):
        raise InvalidSchedule("'Idempotency-Key' must have 1 to 64 letters, digits, dots, dashes and underscores")
    batch_id = _records().run_now(_owner(), name, f"run-{key or uuid4().hex}")
    response = jsonify(batch=batch_id)
    response.headers["Location"] = f"/batches/{batch_id}"
    return response


@bp.delete("/schedules/<name>")
@token_auth.login_required
@scope_required(BATCH)
def remove(name: str) -> ResponseReturnValue:
    """Remove a schedule; its batches go on."""
    _records().remove(_owner(), name)
    return jsonify(removed=name)
