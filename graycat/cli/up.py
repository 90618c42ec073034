"""``graycat up``: every process of graycat on this machine, and the line that tells how to call it."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import IO

import click
import requests

from graycat.auth import tokens
from graycat.broker.client import check
from graycat.cli import modes, monitoring
from graycat.engines import factory, gpus
from graycat.errors import SettingsError
from graycat.families import FAMILIES
from graycat.queue.topology import WORKER_KINDS
from graycat.schedules import file
from graycat.settings import Settings, environment, variable
from graycat.supervision.reporter import ProcessReporter
from graycat.supervision.specs import PROCESSES, ProcessSpec, parse_procfile
from graycat.supervision.supervisor import ProcessSupervisor

#: Seconds between two looks at whether everything is up.
LOOK_EVERY_S = 0.25
#: Seconds between two lines that say what is still missing.
TELL_EVERY_S = 5.0

#: What to try first, where text is served, and where only images are.
COMPLETION = '{"prompt": "The lighthouse keeper said", "n_predict": 32}'
IMAGE = '{"prompt": "a lighthouse"}'


#: Ports that have an address of their own.
OWN_HOSTS = ("flower_port", "exporter_port", "metrics_port")
#: The family of the engine that a process has, or shares; None for one without.
FAMILY_OF = {f"graycat worker {kind.name}": kind.family for kind in WORKER_KINDS.values()}
FAMILY_OF |= {f"graycat engine {family.name}": family for family in FAMILIES}


@click.command()
@click.option(
    "--procfile", type=click.Path(path_type=Path, exists=True), help="A Procfile to run in place of graycat's own list."
)
def up(procfile: Path | None) -> None:
    """Start everything, and stop it all at Ctrl-C."""
    settings = Settings.from_env()
    check(settings)
    processes = processes_here(settings, procfile)
    for family in FAMILIES:
        if family.is_enabled(settings):
            # Its settings are checked here, before anything starts.
            factory.describe_engine(settings, family)
    if settings.remote is None:
        tokens.ApiTokens.from_settings(settings)
        file.load(settings)
    lock = lock_home(settings.home)
    check_ports(settings, processes)
    supervisor = ProcessSupervisor(
        [ProcessSpec.from_command(name, command) for name, command in processes.items()],
        child_environment(settings),
        # A worker may need the grace, and the broker waits for it.
        kill_after_s=settings.stop_grace_s + 5,
    )
    if settings.remote is None:
        reporter = ProcessReporter(settings)
        supervisor.report = reporter.update
        secret = next(iter(tokens.configured(settings).values()), "") or tokens.generated(settings)
        threading.Thread(target=announce, args=(settings, secret), daemon=True).start()
    else:
        click.echo(modes.greeting(processes, settings))
    supervisor.run()
    lock.close()


def lock_home(home: Path) -> IO[str]:
    """Return the home's lock, held until it is closed. Raises SettingsError where another graycat holds it."""
    home.mkdir(parents=True, exist_ok=True)
    lock = (home / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SettingsError(f"another graycat uses {home}: choose another folder with GRAYCAT_HOME=...") from None
    return lock


def processes_here(settings: Settings, procfile: Path | None = None) -> dict[str, str]:
    """Return the commands by name, without those that the settings make needless; by default those of the list in code.

    Raises SettingsError.
    """
    specs = list(PROCESSES)
    if procfile is not None:
        specs = parse_procfile(procfile.read_text())
    processes = {spec.name: spec.command for spec in specs}
    if not settings.embedded_broker:
        processes.pop("broker", None)
    for kind in WORKER_KINDS.values():
        if kind.family is not None and not kind.family.is_enabled(settings):
            processes.pop(kind.name, None)
    kept = monitoring.kept(processes, settings)
    here = modes.of_mode(kept, settings)
    return dict(pair for name, command in here.items() for pair in one_a_gpu(name, command, settings))


def one_a_gpu(name: str, command: str, settings: Settings) -> list[tuple[str, str]]:
    """Return a process of the Procfile as it runs here: one for each GPU of its kind, or as it is."""
    family = FAMILY_OF.get(command)
    pins = []
    if family is not None:
        pins = [place for place in gpus.list_placements(settings, family) if place.gpu is not None]
    return [(f"{name}{pin.suffix}", f"{command} --gpu {pin.gpu}") for pin in pins] or [(name, command)]


def child_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of every process: ours, this Python's commands first, and lines as they are written."""
    env = environment()
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])
    env["PYTHONUNBUFFERED"] = "1"
    env[variable("home")] = str(settings.home.resolve())
    return env


def check_ports(settings: Settings, processes: dict[str, str]) -> None:
    """Raise SettingsError naming the variable of a port that something else holds."""
    needed = [("port", settings.port, settings.host)] if "web" in processes else []
    needed += monitoring.ports(settings, processes)
    for family in FAMILIES:
        starts = (f"graycat worker {family.name}", f"graycat engine {family.name}")
        if family.owns_engine(settings) and any(line.startswith(starts) for line in processes.values()):
            for place in gpus.list_placements(settings, family):
                needed.append((family.port_setting, place.port, settings.engine_host))
    for name, port, host in needed:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise SettingsError(f"port {port} is taken: choose another with {variable(name)}=...") from None
                where = variable(name.replace("port", "host")) if name in OWN_HOSTS else "HOST"
                raise SettingsError(
                    f"{where}={host} is no address of this machine ({error.strerror or error})"
                ) from None


def announce(settings: Settings, secret: str) -> None:
    """Wait until a model would answer, telling what is missing meanwhile, then print how to call it."""
    address = f"http://{'127.0.0.1' if settings.host == '0.0.0.0' else settings.host}:{settings.port}"  # noqa: S104
    told_at = time.monotonic()
    while reason := not_ready(address):
        if time.monotonic() - told_at >= TELL_EVERY_S:
            told_at = time.monotonic()
            click.echo(f"graycat: starting ... {reason}")
        time.sleep(LOOK_EVERY_S)
    path, body = ("/completion", COMPLETION) if settings.run_llm else ("/generate-image", IMAGE)
    click.echo(
        f"\ngraycat is ready at {address}\n"
        f"API token: {secret}\n\n"
        f"Try it:\n"
        f"  curl {address}{path} -H 'Authorization: Bearer {secret}' \\\n"
        f"    -d '{body}'\n\n"
        f"{monitoring.greeting(settings)}"
        f"Ctrl-C stops everything.\n"
    )


def not_ready(address: str) -> str:
    """Return what is missing; nothing when everything is up."""
    try:
        reply = requests.get(f"{address}/ready", timeout=2)
    except requests.RequestException:
        return "the web server is not up yet"
    if reply.ok:
        return ""
    try:
        return str(reply.json()["reason"])
    except (ValueError, KeyError, TypeError):
        return f"something else answers at {address}"
