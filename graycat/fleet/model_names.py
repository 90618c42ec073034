"""Which model a caller means, and which workers have it: by its name, by an alias, or any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graycat.fleet.reports import WorkerStatus
from graycat.redaction.paths import model_name, short_name
from graycat.settings import Settings
from graycat.settings.aliases import parse_aliases


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """The model that a name means. ``workers``: those that may answer.

    ``name``: the model's own name; '' for any model. ``is_everywhere``: all workers of the queue have it.
    ``is_known``: False if no worker has it. ``may_come``: one that still loads may have it.
    """

    name: str
    workers: Sequence[WorkerStatus]
    is_everywhere: bool = True
    is_known: bool = True
    may_come: bool = False


def choose_model(wanted: str, queue: str, workers: Sequence[WorkerStatus], settings: Settings) -> ChosenModel:
    """Return which model of the workers of a queue (a shared one) a request means. ``wanted``: as its caller wrote it.

    While no worker has told its models, every name is taken for one.
    """
    able = [worker for worker in workers if queue in worker.queues and worker.models]
    if not wanted:
        return ChosenModel("", able)
    # Engines without a name for their model call it by its path; its name here is the file's.
    name = model_name(wanted)
    having = _find(name, able)
    if not having and short_name(wanted) != name:
        # A worker of an earlier release tells the file's name with its suffix.
        having = _find(short_name(wanted), able)
        if having:
            name = short_name(wanted)
    if not having:
        # A model's own name goes before an alias that is called the same.
        name = parse_aliases(settings.model_aliases).get(wanted, name)
        having = _find(name, able)
    if not able:
        return ChosenModel(name, ())
    if having:
        return ChosenModel(name, having, is_everywhere=len(having) == len(able))
    only = {worker.models for worker in able}
    if settings.serves_unknown_models and len(only) == 1 and len(able[0].models) == 1:
        return ChosenModel(able[0].models[0], able)
    return ChosenModel(name, (), is_everywhere=False, is_known=False, may_come=is_one_loading(queue, workers))


def is_one_loading(queue: str, workers: Sequence[WorkerStatus]) -> bool:
    """Return whether a worker of a queue is alive and has not yet told its models, because its engine starts."""
    for worker in workers:
        starts = worker.engine_state != "ready" and not worker.crash_loop
        if queue in worker.queues and not worker.models and starts:
            return True
    return False


def has_model(wanted: str, models: Sequence[str]) -> bool:
    """Return whether one of an engine's models is meant by a name; True if it tells none."""
    return not models or model_name(wanted) in models or short_name(wanted) in models


def _find(name: str, workers: Sequence[WorkerStatus]) -> list[WorkerStatus]:
    return [worker for worker in workers if name in worker.models]
