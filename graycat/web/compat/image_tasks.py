"""Runs image tasks for a request: checks the body, runs the task, and embeds its images into the reply."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import gevent
from flask import Response, g, request
from gevent.util import wrap_errors

from graycat import params
from graycat.bounds.stored import parse_json
from graycat.fleet.catalogs import workers_for
from graycat.images.fields import EXTRAS_FIELDS, INTERROGATE_FIELDS, MEANT_ELSEWHERE, check_known
from graycat.images.output import FIELD as OUTPUT_FIELD
from graycat.images.prompt_controls import check_styles
from graycat.images.replies import embed_images
from graycat.images.webui_requests import REFUSED_FIELDS, split_names
from graycat.queue.kinds import EXTRA_BATCH, EXTRA_SINGLE, INTERROGATE, PLAIN, TXT2IMG, Kind
from graycat.queue.topology import worker_queue
from graycat.storage.errors import ArtifactsUnavailable
from graycat.web.services import services
from graycat.web.streaming.formats import LLAMACPP
from graycat.web.streaming.responses import respond

T = TypeVar("T")

Body = dict[str, Any]


def allow_large_body() -> None:
    """Allow this request's body the size that images need; a blueprint's ``before_request``."""
    request.max_content_length = services().settings.max_image_body_bytes


def run_in_thread(work: Callable[[], T]) -> T:
    """Run work that keeps a CPU core busy (decoding images) in a thread, so that other clients are served meanwhile.

    Raises what the work raises.
    """
    # wrap_errors: else gevent prints a traceback for each refused request, with the request in it.
    result: T | Exception = gevent.get_hub().threadpool.apply(wrap_errors((Exception,), work))
    if isinstance(result, Exception):
        raise result
    return result


def run_image_task(kind: Kind, body: Body, check: Callable[[Body], Body]) -> Response:
    """Check a body, run its task, and return the engine's reply with its images; 202 for ``respond-async``.

    Raises RequestError, ModelNotFound, UnknownName.
    """
    checked, queue = check_image_body(kind, body, check)
    response = respond(kind, queue, PLAIN, json.dumps(checked).encode(), LLAMACPP)
    if response.status_code == 200:
        response.set_data(embed_artifacts(response.get_data(), g.task_id))
    return response


def check_image_body(kind: Kind, body: Body, check: Callable[[Body], Body]) -> tuple[Body, str]:
    """Return the body as the engine gets it, and its queue. Raises RequestError, ModelNotFound."""
    params.check_size(body, services().settings.max_prompt_chars)
    checked = run_in_thread(partial(check, body))
    return checked, choose_queue(kind, checked)


def check_own_fields(body: Body, path: str = "", kind: Kind = TXT2IMG) -> None:
    """Raise UnsupportedParameter for a field of an image kind that no engine would read, as a misspelt one.

    For graycat's own routes; clients of the WebUI's send fields of their own. ``path``: what stands before the names.
    """
    # Those that are refused are so with their reason, later.
    further = {*REFUSED_FIELDS, *split_names(services().settings.sd_fields)}
    if kind is INTERROGATE:
        check_known(body, further, path, INTERROGATE_FIELDS, MEANT_ELSEWHERE)
    elif kind in (EXTRA_SINGLE, EXTRA_BATCH):
        check_known(body, further, path, EXTRAS_FIELDS, MEANT_ELSEWHERE)
    else:
        check_known(body, {OUTPUT_FIELD, *further}, path)


def embed_artifacts(reply: bytes, task_id: str) -> bytes:
    """Return a task's answer with its images in base64, as the engine wrote them. Raises ArtifactsUnavailable."""
    value = parse_json(reply)
    if not isinstance(value, dict):
        return reply

    artifacts = services().artifacts

    def fetch(number: int) -> bytes:
        found = artifacts.get(task_id, number)
        if found is None:
            raise ArtifactsUnavailable
        return found[1]

    return json.dumps(embed_images(value, fetch)).encode()


def choose_queue(kind: Kind, body: Body) -> str:
    """Return the kind's queue, or the queue of a worker whose engine has all that the body names.

    graycat checks names because engines silently take another checkpoint or sampler for one that they do not know.
    Raises ModelNotFound, UnknownName, UnsupportedParameter, and SettingNotAllowed for a style that sets parameters.
    """
    if body.get("styles"):
        check_styles(body, [catalog.get("prompt-styles") for catalog in services().catalogs().values()])
    catalogs = services().catalogs()
    call = kind.path.rpartition("/")[2]
    candidates = workers_for(body, catalogs, call)
    if len(candidates) == len(catalogs):
        return kind.queue
    busy_slots = {worker.name: worker.busy for worker in services().workers()}
    least_busy = min(candidates, key=lambda name: busy_slots.get(name, 0))
    return worker_queue(kind.queue, least_busy)
