"""Checkpoints of image engines, as requests name them and as the workers' catalogs list them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graycat.bounds.stored import parse_json
from graycat.errors import BrokerUnavailable
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import WorkerRegistry
from graycat.loops.unexpected import guarded

#: Fields of an entry of ``/sd-models`` by which a request may name a checkpoint; also by a part of its title or file.
ALIASES = ("title", "model_name", "hash", "sha256", "filename")


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
    names = []
    for worker, catalog in catalogs.items():
        if any(_is_called(model, checkpoint) for model in catalog.get("sd-models", [])):
            names.append(worker)
    return names


def _is_called(model: Any, name: str) -> bool:
    """Return whether an entry of ``/sd-models`` has a name, whatever its case."""
    if not isinstance(model, dict):
        return False
    wanted = name.lower()
    for alias in ALIASES:
        value = str(model.get(alias) or "")
        # A title ends with a short hash in brackets; a file name is the last part of a path of any system.
        file = value.replace("\\", "/").rpartition("/")[2]
        for text in (value, file):
            if text and wanted in (text.lower(), text.partition(" [")[0].lower()):
                return True
    return False
