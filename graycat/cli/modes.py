"""What ``graycat up`` runs on a machine: everything, workers for a remote broker, or engines alone."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from graycat.engines import gpus
from graycat.errors import SettingsError
from graycat.families import BY_NAME, FAMILIES
from graycat.queue.topology import WORKER_KINDS
from graycat.settings import Settings, variable

#: Workers that a box runs for a remote broker. The control worker signs webhooks, so it runs where the keys are.
REMOTE_WORKERS = tuple(f"graycat worker {kind.name}" for kind in WORKER_KINDS.values() if kind.family is not None)
#: The command that replaces a worker on a machine that runs engines alone.
ENGINE_COMMANDS = {f"graycat worker {family.name}": f"graycat engine {family.name}" for family in FAMILIES}


def select_processes(processes: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the processes that this machine runs, with their commands here. Raises SettingsError if there are none."""
    if settings.remote is None:
        return dict(processes)
    if settings.remote:
        commands = {command: command for command in REMOTE_WORKERS}
    else:
        commands = dict(ENGINE_COMMANDS)
    for family in FAMILIES:
        runs_elsewhere = not settings.remote and not family.owns_engine(settings)
        # A placeholder is for a first try on one machine; callers of a box would take it for a model.
        if runs_elsewhere or family.is_placeholder(settings):
            commands.pop(f"graycat worker {family.name}")

    selected = {name: commands[command] for name, command in processes.items() if command in commands}
    if not selected:
        raise SettingsError("this box has nothing to run: see RUN_LLM, RUN_SD and SD_STARTUP_COMMAND")
    return selected


def greeting(processes: Mapping[str, str], settings: Settings) -> str:
    """Return the text that a machine without a web server prints at its start."""
    if settings.remote:
        workers = gpus.Placement(None, 0).worker_name("*", settings.box)
        return (
            f"\ngraycat works for the broker at {_place_of_broker(settings)}, as {workers}\n"
            f"GET /ready of its web server says when these workers take tasks.\n\nCtrl-C stops everything.\n"
        )
    kinds = {command.split()[2] for command in processes.values()}
    ports = []
    for kind in sorted(kinds):
        ports += [str(placement.port) for placement in gpus.list_placements(settings, BY_NAME[kind])]
    return (
        f"\ngraycat runs engines alone: on {settings.engine_host}, port {', '.join(ports)}\n"
        f"Clients send {variable('engine_api_key')} as their bearer token, or as the password of HTTP Basic.\n\n"
        "Ctrl-C stops everything.\n"
    )


def _place_of_broker(settings: Settings) -> str:
    """Return where the broker is, or which one its sentinels are asked for."""
    if settings.sentinel is not None:
        return str(settings.sentinel)
    address = urlsplit(settings.broker_url)
    return f"{address.hostname}:{address.port or 6379}"
