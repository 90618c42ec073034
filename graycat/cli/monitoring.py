"""What ``graycat up`` runs to show how everything is doing: Flower, the Celery exporter, the workers' metrics."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from graycat.metrics.server import metrics_port
from graycat.settings import Settings, variable
from graycat.settings.secretfiles import kept as kept_secret

FLOWER, EXPORTER = "graycat flower", "graycat exporter"
COMMANDS = (FLOWER, EXPORTER)


def kept(processes: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the processes without those that are switched off."""
    wanted = {FLOWER: settings.flower, EXPORTER: settings.exporter}
    return {name: command for name, command in processes.items() if wanted.get(command, True)}


def ports(settings: Settings, processes: Mapping[str, str]) -> list[tuple[str, int, str]]:
    """Return the ports that these processes will listen on: setting, port, address."""
    commands = list(processes.values())
    needed = []
    if FLOWER in commands:
        needed.append(("flower_port", settings.flower_port, settings.flower_host))
    if EXPORTER in commands:
        needed.append(("exporter_port", settings.exporter_port, "127.0.0.1"))
    for words in (command.split() for command in commands):
        if words[:2] == ["graycat", "worker"]:
            gpu = int(words[words.index("--gpu") + 1]) if "--gpu" in words else None
            if port := metrics_port(settings, words[2], gpu):
                needed.append(("metrics_port", port, settings.metrics_host))
    return needed


def greeting(settings: Settings) -> str:
    """Return what is told of Flower when everything is up; the password where it was made here."""
    if not settings.flower:
        return ""
    secret = f"that of {variable('flower_password')}" if settings.flower_password else flower_password(settings)
    return f"Flower: http://{settings.flower_host}:{settings.flower_port}, user graycat, password {secret}\n\n"


def flower_password(settings: Settings) -> str:
    """Return Flower's password; without one in the settings one is made at the first call, and kept."""
    return settings.flower_password or kept_secret(settings.home / "flower-password", lambda: secrets.token_urlsafe(24))
