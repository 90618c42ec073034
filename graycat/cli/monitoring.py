"""The monitoring that ``graycat up`` runs: Flower, the Celery exporter, and the workers' metrics."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from graycat.cli.credentials import Credential
from graycat.metrics.server import BEAT, metrics_port
from graycat.settings import Settings, variable
from graycat.settings.secretfiles import load_or_create

FLOWER, EXPORTER = "graycat flower", "graycat exporter"
COMMANDS = (FLOWER, EXPORTER)


def drop_disabled(processes: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the processes without those that the settings disable."""
    enabled = {FLOWER: settings.flower, EXPORTER: settings.exporter}
    return {name: command for name, command in processes.items() if enabled.get(command, True)}


def list_ports(settings: Settings, processes: Mapping[str, str]) -> list[tuple[str, int, str]]:
    """Return the ports on which these processes will listen, each with its setting, number and address."""
    commands = list(processes.values())
    ports = []
    if FLOWER in commands:
        ports.append(("flower_port", settings.flower_port, settings.flower_host))
    if EXPORTER in commands:
        ports.append(("exporter_port", settings.exporter_port, "127.0.0.1"))
    for command in commands:
        port = _worker_metrics_port(settings, command.split())
        if port:
            ports.append(("metrics_port", port, settings.metrics_host))
    return ports


def _worker_metrics_port(settings: Settings, words: list[str]) -> int:
    """Return the port of the metrics of a worker or of beat; 0 if the command is neither, or serves no metrics."""
    if words == ["graycat", BEAT]:
        return metrics_port(settings, BEAT, None)
    if words[:2] != ["graycat", "worker"]:
        return 0
    gpu = None
    if "--gpu" in words:
        gpu = int(words[words.index("--gpu") + 1])
    return metrics_port(settings, words[2], gpu)


def greeting(settings: Settings) -> str:
    """Return the line about Flower that is printed when everything is up, with its login."""
    if not settings.flower:
        return ""
    made = ""
    if not settings.flower_password:
        made = flower_password(settings)
    password = Credential(variable("flower_password"), password_file(settings).resolve(), made).describe()
    return f"Flower: http://{settings.flower_host}:{settings.flower_port}, user graycat, password {password}"


def flower_password(settings: Settings) -> str:
    """Return Flower's password. If the settings have none, it is generated at the first call and stored."""
    return settings.flower_password or load_or_create(password_file(settings), lambda: secrets.token_urlsafe(24))


def password_file(settings: Settings) -> Path:
    """Return the file of Flower's generated password."""
    return settings.home / "flower-password"
