"""What an operator does to workers and queues, over REST: ``graycat worker`` and ``graycat queue`` do the same."""

from __future__ import annotations

import logging
from typing import Any

from flask import Blueprint, g, jsonify
from flask.typing import ResponseReturnValue

from graycat import params
from graycat.auth.tokens import ADMIN
from graycat.celeryapp import GraycatCelery
from graycat.errors import RequestError
from graycat.fleet.errors import QueueNotFound, WorkerNotFound, WorkerRefused, WorkerSilent
from graycat.queue.control import ask_worker
from graycat.queue.topology import QUEUES
from graycat.web.auth import scope_required, token_auth
from graycat.web.compat.route import read_body
from graycat.web.services import services

logger = logging.getLogger(__name__)

bp = Blueprint("fleet", __name__)

#: Seconds in which a worker answers a command.
REPLY_TIMEOUT_S = 3.0
#: The longest time that a drain may give to the tasks that run, in seconds: a day.
MAX_LIMIT_S = 86_400


@bp.post("/queues/<queue>/pause")
@token_auth.login_required
@scope_required(ADMIN)
def pause_queue(queue: str) -> ResponseReturnValue:
    """Pause a queue: no worker takes tasks from it. It still accepts new tasks."""
    _check_queue(queue)
    services().worker_registry.pause_queue(queue)
    return _done("queue paused", queue, "is paused")


@bp.post("/queues/<queue>/resume")
@token_auth.login_required
@scope_required(ADMIN)
def resume_queue(queue: str) -> ResponseReturnValue:
    """Resume a paused queue."""
    _check_queue(queue)
    services().worker_registry.resume_queue(queue)
    return _done("queue resumed", queue, "is resumed")


@bp.post("/workers/<worker>/pause")
@token_auth.login_required
@scope_required(ADMIN)
def pause_worker(worker: str) -> ResponseReturnValue:
    """Pause a worker: it takes no tasks until it is resumed; those that run go on."""
    return _done("worker paused", worker, _command(worker, "pause_worker"))


@bp.post("/workers/<worker>/resume")
@token_auth.login_required
@scope_required(ADMIN)
def resume_worker(worker: str) -> ResponseReturnValue:
    """Resume a paused worker."""
    return _done("worker resumed", worker, _command(worker, "resume_worker"))


@bp.post("/workers/<worker>/drain")
@token_auth.login_required
@scope_required(ADMIN)
def drain_worker(worker: str) -> ResponseReturnValue:
    """Drain a worker: it takes no more tasks, finishes those that run within ``limit_s``, hands back the rest, ends."""
    return _done("worker drained", worker, _command(worker, "drain_worker", **_read_limit()))


def _check_queue(name: str) -> None:
    """Raise QueueNotFound if there is no queue of this name. Those of one model or worker cannot be paused."""
    if name not in QUEUES:
        raise QueueNotFound(QUEUES)


def _command(name: str, command: str, **arguments: Any) -> str:
    """Send a command to a worker and return its answer. Raises WorkerNotFound, WorkerRefused, WorkerSilent."""
    if all(worker.name != name for worker in services().worker_registry.workers()):
        raise WorkerNotFound
    # An application of its own: this one would send nothing else afterwards (``ask_worker``).
    with GraycatCelery(services().settings) as app:
        reply = ask_worker(app, command, arguments, name, REPLY_TIMEOUT_S)
    services().forget_workers()
    if reply is None:
        raise WorkerSilent
    if "ok" not in reply:
        raise WorkerRefused(f"{name} {reply.get('error', 'does not know this command')}")
    return str(reply["ok"])


def _read_limit() -> dict[str, float]:
    raw = read_body()
    if not raw:
        return {}
    body = params.read_object(raw, services().settings.max_json_depth)
    params.refuse_unknown(body, ("limit_s",))
    if "limit_s" not in body:
        return {}
    limit_s = body["limit_s"]
    if isinstance(limit_s, bool) or not isinstance(limit_s, int | float) or not 0 <= limit_s <= MAX_LIMIT_S:
        raise RequestError(f"'limit_s' must be a number of seconds, 0 to {MAX_LIMIT_S}")
    return {"limit_s": float(limit_s)}


def _done(event: str, name: str, said: str) -> ResponseReturnValue:
    logger.warning(event, extra={"target": name, "by": g.owner})
    return jsonify(name=name, message=f"{name} {said}")
