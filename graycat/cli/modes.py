"""What ``graycat up`` runs on a box: everything, workers for a broker elsewhere, or engines without anything."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from graycat.engines import gpus
from graycat.errors import SettingsError
from graycat.settings import Settings, variable

#: Workers that a box runs for a broker elsewhere. The control worker signs webhooks: its place is where the keys are.
REMOTE = ("graycat worker llm", "graycat worker quick", "graycat worker sd")
#: What stands in for a worker where nobody hands out tasks.
ALONE = {"graycat worker llm": "graycat engine llm", "graycat worker sd": "graycat engine sd"}


def of_mode(processes: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return those of the Procfile's processes that run here, as they run here. Raises SettingsError for none."""
    if settings.remote is None:
        return dict(processes)
    instead = {command: command for command in REMOTE} if settings.remote else dict(ALONE)
    if not (settings.a1111_url or settings.sd_startup_command):
        # The placeholder is for trying out; from a box it would be taken for a model.
        instead.pop("graycat worker sd")
    if not settings.remote:
        # Engines that run already are none of ours.
        ours = {"graycat worker llm": settings.owns_llm_engine, "graycat worker sd": not settings.a1111_url}
        instead = {command: engine for command, engine in instead.items() if ours[command]}
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
    ports = [str(place.port) for kind in sorted(kinds) for place in gpus.list_placements(settings, kind)]
    return (
        f"\ngraycat runs engines alone: on {settings.engine_host}, port {', '.join(ports)}\n"
        f"Callers send {variable('engine_api_key')} as their bearer token, or as the password of HTTP Basic.\n\n"
        "Ctrl-C stops everything.\n"
    )
