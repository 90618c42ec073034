"""Checkpoints of image engines as requests name them, among what the workers have reported."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graycat.fleet.workers import WorkerRegistry, WorkerStatus

#: How a request names a checkpoint: any of these fields of ``/sd-models``, or a part of its title or file.
ALIASES = ("title", "model_name", "hash", "sha256", "filename")


class Catalogs:
    """What the image engines answer without work, parsed; asked for anew where a worker's report names another one."""

    def __init__(self, fleet: WorkerRegistry) -> None:
        self._fleet = fleet
        self._known: dict[tuple[str, str], dict[str, Any]] = {}

    def of(self, workers: Iterable[WorkerStatus]) -> dict[str, dict[str, Any]]:
        """Return the catalogs of workers by their names. Raises BrokerUnavailable."""
        wanted = {(w.name, w.catalog) for w in workers if w.catalog}
        for name, version in wanted - self._known.keys():
            # Empty where its worker has just left; it may come back with the same.
            if found := self._fleet.catalog(name):
                self._known[name, version] = {k: json.loads(v) for k, v in found.items()}
        for key in self._known.keys() - wanted:
            del self._known[key]
        return {name: catalog for (name, _), catalog in sorted(self._known.items())}


def requested_checkpoint(body: Mapping[str, Any]) -> str:
    """Return the checkpoint that a request names; '' where it takes any."""
    overrides = body.get("override_settings")
    wanted = overrides.get("sd_model_checkpoint") if isinstance(overrides, dict) else None
    return wanted if isinstance(wanted, str) else ""


def workers_with(checkpoint: str, catalogs: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    """Return the names of the workers whose engines have a checkpoint."""
    models = {name: catalog.get("sd-models", []) for name, catalog in catalogs.items()}
    return [name for name, listed in models.items() if any(_is_called(model, checkpoint) for model in listed)]


def _is_called(model: Any, wanted: str) -> bool:
    names = [str(model[alias]) for alias in ALIASES if model.get(alias)] if isinstance(model, dict) else []
    files = [name.replace("\\", "/").rpartition("/")[2] for name in names]
    return wanted.lower() in {part.lower() for name in (*names, *files) for part in (name, name.partition(" [")[0])}
