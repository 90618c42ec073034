"""Schedules over REST: batches that are submitted by the clock."""

from __future__ import annotations

import re
from functools import partial
from uuid import uuid4

from flask import Blueprint, Response, g, jsonify, request
from flask.typing import ResponseReturnValue

from graycat.auth.tokens import ADMIN, BATCH, LLM, SD
from graycat.batches import spec
from graycat.errors import RequestError
from graycat.schedules.definition import Schedule
from graycat.schedules.errors import InvalidSchedule
from graycat.web.api.choices import check_choices, check_names
from graycat.web.auth import require_scope, scope_required, token_auth
from graycat.web.compat.image_tasks import run_in_thread
from graycat.web.compat.route import read_object
from graycat.web.limits import pixel_limit
from graycat.web.links import link
from graycat.web.services import services

bp = Blueprint("schedules", __name__)

#: Upcoming times in one answer.
DEFAULT_NEXT_TIMES = 5
MAX_NEXT_TIMES = 100
#: The form of the idempotency key of a run by hand.
RUN_KEY = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def _owner() -> str:
    """Return the owner of the schedules that the request is about: the caller, or the ``owner`` that an admin names."""
    owner = request.args.get("owner")
    if owner is None or owner == g.owner:
        return str(g.owner)
    require_scope(ADMIN)
    if not owner or ":" in owner:
        raise InvalidSchedule("'owner' must be the name of an API token")
    return owner


def _parse_schedule(**fields: str) -> Schedule:
    """Return the schedule that the request's body describes. Raises RequestError, Forbidden."""
    # The batches of a schedule make images.
    require_scope(SD)
    body = read_object(is_document=True)
    for field, value in fields.items():
        if body.get(field) not in (None, value):
            raise RequestError(f"{field!r} must be {value!r}, as in the path, or left out")
    body |= fields
    settings = services().settings
    schedule = run_in_thread(partial(Schedule.read, body, _owner(), settings, pixel_limit()))
    if schedule.spec.get("prompts") is not None:
        # A text engine writes the prompts.
        require_scope(LLM)
    _check_spec(schedule)
    return schedule


def _check_spec(schedule: Schedule) -> None:
    """Raise InvalidBatch if the engines that run now cannot make a schedule's batch."""
    check_choices(schedule.spec, "spec.")
    parsed = run_in_thread(partial(spec.parse, schedule.document(), services().settings, is_accepted=True))
    check_names(parsed, "spec.")


def _store(schedule: Schedule, *, replace: bool) -> Response:
    outcome = services().schedules.put(schedule, replace=replace)
    response = jsonify(services().schedules.get(schedule.owner, schedule.name))
    if outcome == "new":
        response.status_code = 201
    response.headers["Location"] = link(f"/schedules/{schedule.name}")
    return response


@bp.post("/schedules")
@token_auth.login_required
@scope_required(BATCH)
def add() -> ResponseReturnValue:
    """Add a schedule. Repeating it changes nothing; a different schedule of the same name is refused."""
    return _store(_parse_schedule(), replace=False)


@bp.put("/schedules/<name>")
@token_auth.login_required
@scope_required(BATCH)
def put(name: str) -> ResponseReturnValue:
    """Add a schedule, or replace the one of that name."""
    return _store(_parse_schedule(name=name), replace=True)


@bp.get("/schedules")
@token_auth.login_required
@scope_required(BATCH)
def listing() -> ResponseReturnValue:
    """List the caller's schedules, sorted by name."""
    owner: str | None = _owner()
    if owner == "*":
        owner = None
    return jsonify(schedules=services().schedules.list(owner))


@bp.get("/schedules/<name>")
@token_auth.login_required
@scope_required(BATCH)
def show(name: str) -> ResponseReturnValue:
    """Show a schedule, with the results of its last times."""
    return jsonify(services().schedules.get(_owner(), name))


@bp.get("/schedules/<name>/next")
@token_auth.login_required
@scope_required(BATCH)
def next_times(name: str) -> ResponseReturnValue:
    """Show the next times of a schedule, in its time zone."""
    text = request.args.get("count", str(DEFAULT_NEXT_TIMES))
    if not re.fullmatch(r"\d{1,3}", text, re.ASCII) or not 1 <= int(text) <= MAX_NEXT_TIMES:
        raise InvalidSchedule(f"'count' must be from 1 to {MAX_NEXT_TIMES}")
    schedule = services().schedules.load_definition(_owner(), name)
    return jsonify(timezone=schedule.timezone, times=services().schedules.list_next(schedule.owner, name, int(text)))


@bp.post("/schedules/<name>/pause")
@token_auth.login_required
@scope_required(BATCH)
def pause(name: str) -> ResponseReturnValue:
    """Pause a schedule until it is resumed; batches that it has submitted go on."""
    return jsonify(services().schedules.pause(_owner(), name))


@bp.post("/schedules/<name>/resume")
@token_auth.login_required
@scope_required(BATCH)
def resume(name: str) -> ResponseReturnValue:
    """Resume a paused schedule; the times that passed meanwhile are left out."""
    return jsonify(services().schedules.resume(_owner(), name))


@bp.post("/schedules/<name>/run")
@token_auth.login_required
@scope_required(BATCH)
def run(name: str) -> ResponseReturnValue:
    """Submit a schedule's batch now. Repeating it with the same ``Idempotency-Key`` returns the same batch."""
    require_scope(SD)
    key = request.headers.get("Idempotency-Key")
    if key is not None and not RUN_KEY.fullmatch(key):
        raise InvalidSchedule("'Idempotency-Key' must have 1 to 64 letters, digits, dots, dashes and underscores")
    _check_spec(services().schedules.load_definition(_owner(), name))
    batch_id = services().schedules.run_now(_owner(), name, f"run-{key or uuid4().hex}")
    response = jsonify(batch=batch_id)
    response.headers["Location"] = link(f"/batches/{batch_id}")
    return response


@bp.delete("/schedules/<name>")
@token_auth.login_required
@scope_required(BATCH)
def remove(name: str) -> ResponseReturnValue:
    """Remove a schedule; batches that it has submitted go on."""
    services().schedules.remove(_owner(), name)
    return jsonify(removed=name)
