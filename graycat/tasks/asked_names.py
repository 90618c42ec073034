"""What a request names and its engine does not have, found when the task runs.

Web compares names with what engines list before it accepts a request. At the start of a fleet nobody has told that yet:
requests are accepted and wait for their engine, and their names are looked at here. Else an engine would answer with
the model that it has, without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis.exceptions import RedisError

from graycat.bounds.stored import parse_json
from graycat.errors import BrokerUnavailable, EngineNotReady, ModelNotFound, ModelNotReady, RequestError
from graycat.fleet.catalogs import requested_checkpoint, workers_for
from graycat.fleet.model_names import has_model
from graycat.queue import kinds
from graycat.queue.models import Attempt
from graycat.worker.runtime import EngineRuntime

#: The kinds whose routes refuse a ``model`` that no engine has; the others' take any name.
BY_MODEL = frozenset(
    kind.name
    for kind in (
        *(kinds.CHAT, kinds.OPENAI_COMPLETION, kinds.OPENAI_EMBEDDINGS, kinds.RESPONSES, kinds.MESSAGES),
        *(kinds.COUNT_CHAT, kinds.COUNT_RESPONSES, kinds.COUNT_MESSAGES),
    )
)


def check_model(runtime: EngineRuntime, attempt: Attempt) -> None:
    """Raise ModelNotFound for a model that the worker's engine does not have, ModelNotReady if another may have it."""
    info = runtime.supervisor.info
    if attempt.kind not in BY_MODEL or info is None or not info.models or b'"model"' not in attempt.body:
        return
    try:
        wanted = parse_json(attempt.body).get("model")
    except (ValueError, AttributeError):
        return
    if isinstance(wanted, str) and wanted and not has_model(wanted, info.models):
        raise ModelNotReady(wanted) if _has_neighbours(runtime) else ModelNotFound(wanted)


def check_names(runtime: EngineRuntime, body: dict[str, Any], lists: Mapping[str, Any], call: str) -> None:
    """Raise what web raises for a name that an engine does not list; EngineNotReady if another engine may have it.

    ``lists``: the lists of the worker's engine. An engine that lists nothing is believed to have all.
    """
    if not lists:
        return
    try:
        workers_for(body, {runtime.name: lists}, call)
    except RequestError as error:
        if not _has_neighbours(runtime):
            raise
        if isinstance(error, ModelNotFound):
            raise ModelNotReady(requested_checkpoint(body)) from None
        raise EngineNotReady from None


def _has_neighbours(runtime: EngineRuntime) -> bool:
    """Return whether other workers take the same tasks: one of them may have what this one lacks."""
    try:
        workers = runtime.fleet.workers()
    except (BrokerUnavailable, RedisError):
        # A box may not read what others report. Web can, once the caller asks again.
        return True
    own = set(runtime.queues)
    return any(worker.name != runtime.name and own & set(worker.queues) for worker in workers)
