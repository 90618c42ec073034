"""What ``graycat up`` runs on a box: everything, workers for a broker elsewhere, or engines without anything."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from graycat.engines import gpus
from graycat.errors import SettingsError
from graycat.families import BY_NAME, FAMILIES
from graycat.queue.topology import WORKER_KINDS
from graycat.settings import Settings, variable

#: Workers that a box runs for a broker elsewhere. The control worker signs webhooks: its place is where the keys are.
REMOTE = tuple(f"graycat worker {kind.name}" for kind in WORKER_KINDS.values() if kind.family is not None)
#: What stands in for a worker where nobody hands out tasks.
ALONE = {f"graycat worker {family.name}": f"graycat engine {family.name}" for family in FAMILIES}


def of_mode(processes: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return those of the Procfile's processes that run here, as they run here. Raises SettingsError for none."""
    if settings.remote is None:
        return dict(processes)
    instead = {command: command for command in REMOTE} if settings.remote else dict(ALONE)
    for family in FAMILIES:
        command = f"graycat worker {family.name}"
        # A placeholder is for trying out; from a box it would be taken for a model. And an engine that runs already is
        # not ours to start.
        if family.is_placeholder(settings) or not (settings.remote or family.owns_engine(settings)):
            instead.pop(command)
    kept = {name: instead[command] for name, command in processes.items() if command in instead}
    if not kept:
        raise SettingsError("nothing is left to run on this box: see RUN_LLM, RUN_SD and SD_STARTUP_COMMAND")
    return kept


def greeting(processes: Mapping[str, str], settings: Settings) -> str:
    """Return what is told of a box without a web server when it starts."""
    if settings.remote:
        address = urlsplit(settings.broker_url)
        broker = f"{address.hostname}:{address.port or 6379}"
        return (
            f"\ngraycat works for the broker at {broker}, as {gpus.Placement(None, 0).worker_name('*', settings.box)}\n"
            f"GET /ready of its web server tells when these workers consume.\n\nCtrl-C stops everything.\n"
        )
    kinds = {command.split()[2] for command in processes.values()}
    ports = [str(place.port) for kind in sorted(kinds) for place in gpus.list_placements(settings, BY_NAME[kind])]
    return (
        f"\ngraycat runs engines alone: on {settings.engine_host}, port {', '.join(ports)}\n"
        f"Callers send {variable('engine_api_key')} as their bearer token, or as the password of HTTP Basic.\n\n"
        "Ctrl-C stops everything.\n"
    )
