"""A task as its caller asks for it: ``{"kind", "input", ...}`` checked, and made into a submission."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

from flask import g

from graycat import params
from graycat.auth.tokens import BATCH
from graycat.errors import RequestError
from graycat.queue import ids, kinds
from graycat.queue.kinds import GATHER, LIVE, PLAIN, Kind
from graycat.queue.names import Lane, QueueName
from graycat.queue.topology import BATCH_QUEUE_TTL_S
from graycat.web.auth import require_scope
from graycat.web.compat import llamacpp, openai, webui
from graycat.web.compat.image_tasks import queue_for, run_in_thread
from graycat.web.limits import token_max_pixels
from graycat.web.services import services
from graycat.web.streaming.requests import Submission
from graycat.webhooks import webhook

#: What a body may hold beside ``kind`` and ``input``.
FIELDS = frozenset({"kind", "input", "queue_ttl_s", "exec_timeout_s", "priority", "webhook", "metadata"})
PRIORITIES = ("interactive", "batch")
MAX_DEADLINE_S = 7 * 24 * 3600.0
#: An id that a caller chooses, or an idempotency key.
CHOSEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

ROUTES = {
    route.kind.name: route
    for route in (*llamacpp.ROUTES, *openai.ROUTES)
    if route.kind.method == "POST" and not route.admin
}
RENDERS = {kind.name: (kind, check) for kind, check, _ in webui.RENDERS.values()}
#: Every kind that may be submitted by name.
KINDS = (*ROUTES, *RENDERS)


@dataclass(frozen=True)
class Wanted:
    """A checked request for a task. ``digest`` names its content: the same again is the same task."""

    submission: Submission
    digest: str


def read(body: dict[str, Any]) -> Wanted:
    """Return what a ``POST /tasks`` body asks for. Raises RequestError and what the kind's own checks raise."""
    if unknown := sorted(body.keys() - FIELDS):
        raise RequestError(f"unknown field {unknown[0]!r}; a task has {', '.join(sorted(FIELDS))}")
    kind_name, given = body.get("kind"), body.get("input")
    if kind_name not in KINDS:
        raise RequestError(f"'kind' must be one of {', '.join(KINDS)}")
    if not isinstance(given, dict):
        raise RequestError("'input' is required: the JSON object that the engine's route takes")
    priority = body.get("priority") or PRIORITIES[0]
    if priority not in PRIORITIES:
        raise RequestError(f"'priority' must be one of {', '.join(PRIORITIES)}")
    require_scopes(str(kind_name), str(priority))
    kind, queue, mode, raw = _prepared(str(kind_name), given)
    if priority == "batch":
        queue = batch_queue(queue)
    shown = {"priority": priority}
    if body.get("metadata") is not None:
        shown["metadata"] = webhook.parse_metadata(body["metadata"])
    if body.get("webhook") is not None:
        shown["webhook"] = webhook.parse(body["webhook"], services().settings).encoded()
    submission = Submission(
        kind=kind,
        queue=queue,
        mode=mode,
        body=raw,
        owner=g.owner,
        request_id=g.request_id,
        queue_ttl_s=_seconds(body, "queue_ttl_s") or (BATCH_QUEUE_TTL_S if priority == "batch" else None),
        exec_timeout_s=_seconds(body, "exec_timeout_s"),
        shown=shown,
    )
    return Wanted(submission, digest(body))


def require_scopes(kind: str, priority: str) -> None:
    """Raise Forbidden where the request's API token may not have a task of that kind and priority."""
    require_scope(kinds.KINDS[kind].family.scope)
    if priority == "batch":
        require_scope(BATCH)


def _prepared(name: str, given: dict[str, Any]) -> tuple[Kind, str, str, bytes]:
    """Return kind, queue, mode and the engine's body, checked as the kind's own route does."""
    settings = services().settings
    if name in RENDERS:
        kind, check = RENDERS[name]
        params.check_size(given, settings.max_prompt_chars)
        checked = run_in_thread(partial(check, settings, token_max_pixels(), given))
        return kind, queue_for(kind, checked), PLAIN, json.dumps(checked).encode()
    route = ROUTES[name]
    queue, mode, raw = route.prepare(given, json.dumps(given).encode())
    # Somebody may read along, and everybody finds the whole answer at the end.
    return route.kind, queue, LIVE if mode == GATHER else mode, raw


def batch_queue(queue: str) -> str:
    """Return the queue of work that waits for the gaps, beside an interactive one; quick calls stay where they are."""
    name = QueueName.parse(queue)
    if name.lane != Lane.INTERACTIVE:
        return queue
    return str(name.in_lane(Lane.BATCH))


def digest(body: dict[str, Any]) -> str:
    """Return a name for a request's content."""
    return sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def scoped_ids(owner: str, chosen: str, *, space: str = "") -> dict[str, str]:
    """Return the task id for what an owner calls its task, in each family of kinds.

    Nobody else's calls meet it, nor those in another space.
    """
    if not CHOSEN_ID.fullmatch(chosen):
        raise RequestError("a chosen id or an Idempotency-Key has 1 to 64 letters, digits, dots, dashes, underscores")
    return ids.task_ids_by_family(sha256(f"{owner}\0{space}\0{chosen}".encode()).hexdigest()[:32])


def _seconds(body: dict[str, Any], field: str) -> float | None:
    value = body.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MAX_DEADLINE_S:
        raise RequestError(f"{field!r} must be a number of seconds, above 0 and at most {MAX_DEADLINE_S:.0f}")
    return float(value)
