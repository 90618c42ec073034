"""Requests for tasks: checks ``{"kind", "input", ...}`` and turns it into a submission."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

from flask import g

from graycat import params
from graycat.auth.tokens import ADMIN, BATCH
from graycat.bounds.names import find_nearest, suggest
from graycat.errors import BodyTooLarge, RequestError
from graycat.families import SD
from graycat.queue import ids, kinds
from graycat.queue.kinds import GATHER, LIVE, PLAIN, WORKFLOW, Kind
from graycat.queue.names import Lane, QueueName
from graycat.queue.topology import BATCH_QUEUE_TTL_S
from graycat.settings import variable
from graycat.web.auth import require_scope
from graycat.web.big_bodies import wait_for_turn
from graycat.web.compat import webui, workflows
from graycat.web.compat.image_tasks import allow_large_body, check_own_fields, choose_queue, run_in_thread
from graycat.web.compat.route import read_body
from graycat.web.compat.text_routes import TEXT_ROUTES
from graycat.web.encoding import JsonWriter
from graycat.web.limits import pixel_limit
from graycat.web.services import services
from graycat.web.streaming.requests import Submission
from graycat.webhooks import webhook

#: The fields that a body may have.
FIELDS = frozenset({"kind", "input", "queue_ttl_s", "exec_timeout_s", "priority", "webhook", "metadata"})
#: Fields of the input that somebody has written beside it.
_MEANT = {"prompt": "input.prompt", "messages": "input.messages", "body": "input", "params": "input", "type": "kind"}
PRIORITIES = ("interactive", "batch")
MAX_DEADLINE_S = 7 * 24 * 3600.0
#: The form of an id that a caller chooses, and of an idempotency key.
CHOSEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

#: The text routes whose kinds may be submitted by name.
ROUTES = {route.kind.name: route for route in TEXT_ROUTES if route.kind.method == "POST" and not route.admin}
#: The text kinds that change what all callers share.
ADMIN_KINDS = frozenset(route.kind.name for route in TEXT_ROUTES if route.admin)
#: The image kinds that may be submitted by name, with the checks of their bodies.
IMAGE_CHECKS = {kind.name: (kind, check) for kind, check, _ in webui.IMAGE_CALLS.values()}
#: The names of all kinds that may be submitted.
KINDS = (*ROUTES, *IMAGE_CHECKS)


@dataclass(frozen=True)
class TaskRequest:
    """A checked request for a task. ``digest`` identifies its content: the same content is the same task."""

    submission: Submission
    digest: str


def parse_task_request(body: dict[str, Any], raw: bytes = b"") -> TaskRequest:
    """Return what the body of ``POST /tasks`` asks for. Raises RequestError and what the kind's own checks raise.

    ``raw``: the JSON that the body was read from, if it was.
    """
    unknown = sorted(body.keys() - FIELDS)
    if unknown:
        raise RequestError(f"unknown field {unknown[0][:100]!r}; {suggest(unknown[0], sorted(FIELDS), _MEANT)}")
    kind_name = body.get("kind")
    if kind_name not in KINDS and not workflows.is_workflow_kind(kind_name):
        raise RequestError(f"'kind' must be one of {', '.join(KINDS)}, {WORKFLOW.name}/NAME{_suggest_kind(kind_name)}")
    engine_body = body.get("input")
    if not isinstance(engine_body, dict):
        raise RequestError("'input' is required: the JSON object that the engine's route takes")
    priority = _parse_priority(body)
    require_scopes(str(kind_name), priority)

    writer = JsonWriter(raw)
    kind, queue, mode, sent = _prepare(str(kind_name), engine_body, writer)
    queue_ttl_s = _parse_seconds(body, "queue_ttl_s")
    if priority == "batch":
        queue = batch_queue(queue)
        queue_ttl_s = queue_ttl_s or BATCH_QUEUE_TTL_S
    fields = {"priority": priority}
    if kind is kinds.WORKFLOW:
        fields["workflow"] = workflows.name_in(str(kind_name))
    if body.get("metadata") is not None:
        fields["metadata"] = webhook.parse_metadata(body["metadata"])
    hook = ""
    if body.get("webhook") is not None:
        hook = webhook.parse(body["webhook"], services().settings).to_json()
    submission = Submission(
        kind=kind,
        queue=queue,
        mode=mode,
        body=sent,
        owner=g.owner,
        request_id=g.request_id,
        queue_ttl_s=queue_ttl_s,
        exec_timeout_s=_parse_seconds(body, "exec_timeout_s"),
        shown=fields,
        webhook=hook,
    )
    wait_for_turn(len(raw))
    return TaskRequest(submission, digest(body, writer))


def _suggest_kind(name: object) -> str:
    """Return the end of a sentence about an unknown kind: which one may be meant."""
    nearest = find_nearest(name, KINDS) if isinstance(name, str) else ""
    return f"; did you mean {nearest!r}?" if nearest else ""


def require_scopes(kind: str, priority: str) -> None:
    """Raise Forbidden if the request's API token may not submit a task of that kind and priority."""
    base, _, _ = kind.partition("/")
    require_scope(kinds.KINDS[base].family.scope)
    if kind in ADMIN_KINDS:
        require_scope(ADMIN)
    if priority == "batch":
        require_scope(BATCH)


def _prepare(name: str, engine_body: dict[str, Any], writer: JsonWriter) -> tuple[Kind, str, str, bytes]:
    """Return kind, queue, mode and the engine's body, checked as on the kind's own route."""
    settings = services().settings
    if workflows.is_workflow_kind(name):
        return workflows.prepare(workflows.name_in(name), engine_body)
    if name in IMAGE_CHECKS:
        kind, check = IMAGE_CHECKS[name]
        check_own_fields(engine_body, "input.", kind)
        params.check_size(engine_body, settings.max_prompt_chars)
        checked = run_in_thread(partial(check, settings, pixel_limit(), engine_body))
        return kind, choose_queue(kind, checked), PLAIN, json.dumps(checked).encode()

    route = ROUTES[name]
    queue, mode, raw = route.prepare(engine_body, writer)
    if mode == GATHER:
        # A client may follow the events, and another may read the whole answer at the end: LIVE serves both.
        mode = LIVE
    return route.kind, queue, mode, raw


def read_task_object() -> tuple[dict[str, Any], bytes]:
    """Return the JSON object of the body of a request for a task, and its bytes.

    Raises BodyTooLarge, RequestError, TooComplex.

    A task of a text kind may have the bytes that the kind's own route takes, one for images those of image routes. Who
    may not make images needs not send more than the first.
    """
    if SD.scope in g.token.scopes:
        allow_large_body()
    raw = read_body()
    body = params.read_object(raw, services().settings.max_json_depth)
    kind = body.get("kind")
    # It may be anything here: what is no text is refused later.
    if isinstance(kind, str) and (kind in IMAGE_CHECKS or workflows.is_workflow_kind(kind)):
        return body, raw
    _check_text_size(raw)
    return body, raw


def _check_text_size(raw: bytes) -> None:
    """Raise BodyTooLarge if a text request has more bytes than its own route takes."""
    largest = services().settings.max_body_bytes
    if len(raw) > largest:
        raise BodyTooLarge(f"the body of a request for text may have {largest} bytes, {variable('max_body_bytes')}")


def fit_stored_body(kind: str, body: bytes) -> bytes:
    """Return the body of a task that is to run again, within the limits that hold now as at a submit.

    The settings' limits or those of the API token may have become narrower. Raises RequestError, LimitExceeded.
    """
    settings = services().settings
    if kind == kinds.WORKFLOW.name:
        stored = params.read_object(body, settings.max_json_depth)
        return workflows.prepare(str(stored.get("workflow")), stored.get("input"))[3]
    if kind in IMAGE_CHECKS:
        stored = params.read_object(body, settings.max_json_depth)
        _, check = IMAGE_CHECKS[kind]
        return json.dumps(run_in_thread(partial(check, settings, pixel_limit(), stored))).encode()
    if kind in ROUTES:
        _check_text_size(body)
        return ROUTES[kind].fit_stored(params.read_object(body, settings.max_json_depth), body)
    return body


def batch_queue(queue: str) -> str:
    """Return the batch queue beside an interactive queue; any other queue (quick calls) is returned unchanged."""
    name = QueueName.parse(queue)
    if name.lane != Lane.INTERACTIVE:
        return queue
    return str(name.in_lane(Lane.BATCH))


def digest(body: dict[str, Any], writer: JsonWriter) -> str:
    """Return a hash that identifies a request's content: of its JSON, sorted. ``writer`` has written its input."""
    found = sha256()
    before = "{"
    for name in sorted(body):
        found.update(f"{before}{json.dumps(name)}: ".encode())
        before = ", "
        value = body[name]
        if name == "input":
            for piece in writer.pieces_sorted(value):
                found.update(piece.encode())
        else:
            found.update(json.dumps(value, sort_keys=True).encode())
    found.update(b"}")
    return found.hexdigest()


def scoped_ids(owner: str, chosen_id: str, *, space: str = "") -> dict[str, str]:
    """Return the task ids that stand for an id which an owner chose, by family of kinds.

    The same choice of another owner, or in another ``space``, stands for different tasks.
    """
    if not CHOSEN_ID.fullmatch(chosen_id):
        raise RequestError("a chosen id or an Idempotency-Key has 1 to 64 letters, digits, dots, dashes, underscores")
    return ids.task_ids_by_family(sha256(f"{owner}\0{space}\0{chosen_id}".encode()).hexdigest()[:32])


def _parse_priority(body: dict[str, Any]) -> str:
    value = body.get("priority")
    if value is None:
        return PRIORITIES[0]
    if value not in PRIORITIES:
        raise RequestError(f"'priority' must be one of {', '.join(PRIORITIES)}")
    return str(value)


def _parse_seconds(body: dict[str, Any], field: str) -> float | None:
    value = body.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MAX_DEADLINE_S:
        raise RequestError(f"{field!r} must be a number of seconds, above 0 and at most {MAX_DEADLINE_S:.0f}")
    return float(value)
