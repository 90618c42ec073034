"""Images for a request: the body checked, the task run, its images put back into the reply."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import gevent
from flask import Response, g, request
from gevent.util import wrap_errors

from graycat import params
from graycat.errors import ModelNotFound
from graycat.fleet.catalogs import wanted_checkpoint, workers_with
from graycat.images.replies import embed_images
from graycat.queue.kinds import PLAIN, Kind
from graycat.queue.topology import worker_queue
from graycat.storage.errors import ArtifactsUnavailable
from graycat.web.services import services
from graycat.web.streaming.formats import NATIVE
from graycat.web.streaming.responses import respond

T = TypeVar("T")

Body = dict[str, Any]


def take_large_body() -> None:
    """Let this request's body be as large as images make it; a blueprint's ``before_request``."""
    request.max_content_length = services().settings.max_image_body_bytes


def run_in_thread(work: Callable[[], T]) -> T:
    """Do work that keeps a core busy (decoding images) in a thread, while this process serves its other clients.

    Raises what it raises.
    """
    # Wrapped: gevent would print a traceback of each refused request, and the request with it.
    result: T | Exception = gevent.get_hub().threadpool.apply(wrap_errors((Exception,), work))
    if isinstance(result, Exception):
        raise result
    return result


def render(kind: Kind, body: Body, check: Callable[[Body], Body]) -> Response:
    """Check a body, run its task, and return the engine's reply with its images; 202 for ``respond-async``.

    Raises RequestError, ModelNotFound.
    """
    settings = services().settings
    params.check_size(body, settings.max_prompt_chars)
    checked = run_in_thread(partial(check, body))
    response = respond(kind, queue_for(kind, checked), PLAIN, json.dumps(checked).encode(), NATIVE)
    if response.status_code == 200:
        response.set_data(inlined(response.get_data(), g.task_id))
    return response


def inlined(reply: bytes, task_id: str) -> bytes:
    """Return a task's answer with its images as the engine wrote them. Raises ArtifactsUnavailable."""
    artifacts = services().artifacts

    def fetch(number: int) -> bytes:
        found = artifacts.get(task_id, number)
        if found is None:
            raise ArtifactsUnavailable
        data: bytes = found[1]
        return data

    value = json.loads(reply)
    return json.dumps(embed_images(value, fetch)).encode() if isinstance(value, dict) else reply


def queue_for(kind: Kind, body: Body) -> str:
    """Return the kind's queue, or that of a worker whose engine has the checkpoint that a body names.

    A WebUI takes its current checkpoint for one that it does not know, and says nothing. Raises ModelNotFound.
    """
    if not (wanted := wanted_checkpoint(body)):
        return kind.queue
    shared = services()
    catalogs = shared.catalogs()
    having = workers_with(wanted, catalogs)
    if catalogs and not having:
        raise ModelNotFound(wanted)
    if len(having) == len(catalogs):
        return kind.queue
    busy = {worker.name: worker.busy for worker in shared.workers()}
    return worker_queue(kind.queue, min(having, key=lambda name: busy.get(name, 0)))
