"""What image engines have, as the workers' catalogs list it, and which workers have what a request names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graycat.bounds.stored import parse_json
from graycat.errors import BrokerUnavailable, ModelNotFound, RequestError, UnsupportedParameter
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import WorkerRegistry
from graycat.images.checkpoints import find_checkpoint, is_called
from graycat.images.comfyui_fields import check_request, is_comfyui
from graycat.images.engine_names import Unknown, resolve
from graycat.images.errors import UnknownName
from graycat.images.habits import BY_ENGINE
from graycat.images.networks import find_unknown_networks
from graycat.loops.unexpected import guarded


class Catalogs:
    """The catalogs of workers, parsed. A catalog is read again if its worker reports another version of it."""

    def __init__(self, registry: WorkerRegistry) -> None:
        self._registry = registry
        #: By the worker's name and the version.
        self._cached: dict[tuple[str, str], dict[str, Any]] = {}

    def load(self, workers: Iterable[WorkerStatus]) -> dict[str, dict[str, Any]]:
        """Return the catalogs of workers by the workers' names. Raises BrokerUnavailable."""
        wanted = set()
        for worker in workers:
            if worker.catalog:
                wanted.add((worker.name, worker.catalog))
        for key in wanted - self._cached.keys():
            with guarded("catalogs", let_through=(BrokerUnavailable,)):
                catalog = self._read(key[0])
                # It is empty if its worker has just left, which may come back with the same version.
                if catalog:
                    self._cached[key] = catalog
        for key in self._cached.keys() - wanted:
            del self._cached[key]

        catalogs = {}
        for name, version in sorted(self._cached):
            catalogs[name] = self._cached[name, version]
        return catalogs

    def _read(self, worker: str) -> dict[str, Any]:
        catalog = {}
        for path, reply in self._registry.catalog(worker).items():
            with guarded("catalogs"):
                value = parse_json(reply)
                if isinstance(value, list | dict):
                    catalog[path] = value
        return catalog


def requested_checkpoint(body: Mapping[str, Any]) -> str:
    """Return the checkpoint that a request names; '' if it takes any."""
    overrides = body.get("override_settings")
    if not isinstance(overrides, dict):
        return ""
    checkpoint = overrides.get("sd_model_checkpoint")
    if not isinstance(checkpoint, str):
        return ""
    return checkpoint


def workers_with(checkpoint: str, catalogs: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    """Return the names of the workers whose engines have a checkpoint."""
    every_model: list[Any] = []
    for catalog in catalogs.values():
        every_model.extend(_models(catalog))
    # A part of a title means the same checkpoint on each worker. Two may list one file with and without its hash.
    title = find_checkpoint(checkpoint, every_model)
    names = []
    for worker, catalog in catalogs.items():
        if any(is_called(model, checkpoint) or (title and is_called(model, title)) for model in _models(catalog)):
            names.append(worker)
    return names


def workers_for(
    body: Mapping[str, Any], catalogs: Mapping[str, Mapping[str, Any]], call: str = "txt2img"
) -> Sequence[str]:
    """Return the names of the workers whose engines can do ``call`` and have all that the body of a render names.

    Checkpoints, samplers, schedulers, upscalers, LoRAs and the like: engines replace those that they do not know, or
    leave them out, without a word. Raises ModelNotFound, UnknownName, UnsupportedParameter. Without catalogs nothing is
    known, and none is returned.
    """
    if not catalogs:
        return []
    able = _workers_that_can(body, catalogs, call)
    for path, checkpoint in (("", requested_checkpoint(body)), *_further_checkpoints(body)):
        if checkpoint:
            owners = workers_with(checkpoint, catalogs)
            if not owners:
                raise ModelNotFound(checkpoint, path=path)
            able = [worker for worker in able if worker in owners]

    unknown: dict[str, list[Unknown]] = {}
    for worker in able:
        catalog = catalogs[worker]
        unknown[worker] = [*resolve(dict(body), catalog).unknown, *find_unknown_networks(body, catalog)]
    fitting = [worker for worker in able if not unknown[worker]]
    if able and not fitting:
        raise UnknownName(min(unknown.values(), key=len)[0])
    if not fitting:
        raise RequestError("no image engine has all of the checkpoints that the request names")
    return fitting


def find_unsupported(body: Mapping[str, Any], catalogs: Mapping[str, Mapping[str, Any]]) -> UnsupportedParameter | None:
    """Return what is wrong with the body of a render that no engine can do; None if one can."""
    try:
        _workers_that_can(body, catalogs, "txt2img")
    except UnsupportedParameter as error:
        return error
    return None


def _workers_that_can(body: Mapping[str, Any], catalogs: Mapping[str, Mapping[str, Any]], call: str) -> list[str]:
    """Return the names of the workers whose engines do not refuse a request. Raises UnsupportedParameter."""
    able = []
    refusal: UnsupportedParameter | None = None
    for worker, catalog in catalogs.items():
        try:
            if is_comfyui(catalog):
                check_request(call, dict(body))
            able.append(worker)
        except UnsupportedParameter as error:
            refusal = error
    if refusal is not None and not able:
        raise refusal
    return able


def seed_limit(worker: WorkerStatus) -> int | None:
    """Return the number below which a worker's engine keeps seeds; None if it keeps all, or is not known."""
    try:
        props = parse_json(worker.props)
        return BY_ENGINE[str(props["engine"])].seeds
    except (ValueError, KeyError, TypeError):
        return None


def _further_checkpoints(body: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield the field and the checkpoint of a second pass and of a refiner."""
    for field in ("hr_checkpoint_name", "refiner_checkpoint"):
        name = body.get(field)
        if isinstance(name, str) and name.lower() not in ("", "none", "use same checkpoint"):
            yield field, name


def _models(catalog: Mapping[str, Any]) -> Sequence[Any]:
    models = catalog.get("sd-models")
    if isinstance(models, list):
        return models
    return []
