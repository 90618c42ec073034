"""``graycat up``: runs every process of graycat on this machine, and prints how to call it."""

from __future__ import annotations

import errno
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import click
import requests

from graycat.auth import tokens
from graycat.bounds import documents
from graycat.broker.client import check
from graycat.cli import broker, exporter, modes, monitoring
from graycat.cli.credentials import Credential
from graycat.cli.running import announced, configured_url, lock_home, ports_of
from graycat.cli.text import say
from graycat.engines import factory, gpus
from graycat.errors import SettingsError
from graycat.families import FAMILIES
from graycat.loops import readiness
from graycat.queue.topology import WORKER_KINDS
from graycat.schedules import file
from graycat.settings import Settings, environment, variable
from graycat.settings.spelling import PREFIX, describe_unknown
from graycat.storage import filesystems
from graycat.supervision.reporter import ProcessReporter
from graycat.supervision.specs import PROCESSES, ProcessSpec, parse_procfile
from graycat.supervision.startup import StartupConsole
from graycat.supervision.supervisor import ProcessSupervisor

#: Seconds between two checks whether everything is up.
POLL_INTERVAL_S = 0.25
#: Seconds beyond ``stop_grace_s`` before a process is killed: a worker takes up to seven (``LAST_S`` and
#: ``LOG_TIMEOUT_S`` of worker/stopping.py), the broker waits for it (``DISCONNECT_TIMEOUT_S`` of cli/broker.py), and
#: stops its server then.
STOP_MARGIN_S = 12.0

#: The first request that is suggested: for text, or for images if no text is served.
#: A small model answers well if it is asked to be brief, and picks the likeliest words.
CHAT_BODY = (
    '{"messages": [{"role": "system", "content": "You are a helpful assistant. Answer briefly."}, '
    '{"role": "user", "content": "What is the capital of Japan?"}], "temperature": 0, "max_tokens": 64}'
)
IMAGE_BODY = '{"prompt": "a lighthouse"}'

#: Settings of ports whose address has a setting of its own.
PORTS_WITH_HOST = ("flower_port", "exporter_port", "metrics_port")
#: The family of the engine that a process has, or shares; None for a process without an engine.
FAMILIES_BY_COMMAND = {f"graycat worker {kind.name}": kind.family for kind in WORKER_KINDS.values()}
FAMILIES_BY_COMMAND |= {f"graycat engine {family.name}": family for family in FAMILIES}


@click.command()
@click.option(
    "--procfile",
    type=click.Path(path_type=Path, exists=True),
    help="Run the processes of this Procfile instead of graycat's own list.",
)
@click.option("--check", "only_check", is_flag=True, help="Say whether everything can start here, and start nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --check: print a JSON list.")
def up(procfile: Path | None, only_check: bool = False, as_json: bool = False) -> None:
    """Start everything; stop everything at Ctrl-C.

    --check looks at settings, ports, broker, disk, engines, GPUs, models and clock, prints a line for each, and exits
    with 0 if everything can start, with 1 if something cannot.
    """
    if as_json and not only_check:
        raise click.UsageError("--json goes with --check")
    if only_check:
        check_machine(procfile, as_json=as_json)
        return
    settings = Settings.from_env()
    tell_unknown_names()
    check(settings)
    processes = list_processes(settings, procfile)
    check_installed(settings, processes)
    if settings.remote is None:
        tokens.ApiTokens.from_settings(settings)
        file.load(settings)
    lock = lock_home(settings.home)
    check_ports(settings, processes)
    supervisor = ProcessSupervisor(
        [ProcessSpec.from_command(name, command) for name, command in processes.items()],
        child_environment(settings),
        kill_after_s=settings.stop_grace_s + STOP_MARGIN_S,
    )
    url = configured_url(settings) if "web" in processes else ""
    with lock, announced(settings.home, url, ports_of(settings)):
        run(supervisor, processes, settings)


def run(supervisor: ProcessSupervisor, processes: dict[str, str], settings: Settings) -> None:
    """Run the processes until all have stopped, and print how to call them."""
    if settings.remote is None:
        arguments = (settings, _first_api_token(settings), supervisor.console)
        threading.Thread(target=announce, args=arguments, daemon=True).start()
        run_and_report(supervisor, settings)
    else:
        # At once: nobody here can say when callers are served.
        say(modes.greeting(processes, settings))
        supervisor.run()


def tell_unknown_names() -> None:
    """Print which variables of the environment begin as ours do, and are none: they may be somebody else's."""
    ours = {name: value for name, value in environment().items() if name.startswith(PREFIX)}
    for text in describe_unknown(ours):
        say(f"graycat: {text}", err=True)


def check_machine(procfile: Path | None, *, as_json: bool) -> None:
    """Print what could keep graycat from starting here. Exits with 1 if something does."""
    # Most starts do not need it.
    from graycat.cli import preflight

    findings = preflight.examine(procfile)
    say(preflight.report(findings, as_json=as_json))
    if any(finding.verdict is preflight.Verdict.FAILED for finding in findings):
        raise click.exceptions.Exit(1)


def run_and_report(supervisor: ProcessSupervisor, settings: Settings) -> None:
    """Run the processes, and report them until all have stopped. A broker elsewhere then forgets them at once."""
    reporter = ProcessReporter(settings)
    supervisor.report = reporter.update
    # Before the broker stops, if it is one of the processes.
    supervisor.before_stop = reporter.stop
    try:
        supervisor.run()
    finally:
        reporter.stop()


def check_installed(settings: Settings, processes: dict[str, str]) -> None:
    """Check, before anything starts, that what the processes run is installed and set up. Raises SettingsError."""
    commands = processes.values()
    if "graycat broker" in commands:
        broker.require_server()
    if monitoring.EXPORTER in commands:
        exporter.require_python(settings)
    check_stores(settings)
    for family in FAMILIES:
        if family.is_enabled(settings):
            factory.describe_engine(settings, family)


def check_stores(settings: Settings) -> None:
    """Check that the stores of images and batches can be opened, without connecting. Raises SettingsError."""
    for name in ("artifacts_url", "batch_dir"):
        url = getattr(settings, name)
        if "://" in url:
            filesystems.open_url(url, variable(name))


def _first_api_token(settings: Settings) -> Credential:
    """Return the first token of API_TOKENS; without any, the token that this installation generates."""
    made = ""
    if not tokens.parse_api_tokens(settings):
        made = tokens.load_generated_token(settings)
    return Credential("API_TOKENS", tokens.token_file(settings).resolve(), made)


def list_processes(settings: Settings, procfile: Path | None = None) -> dict[str, str]:
    """Return the commands by process name, without those that the settings make needless.

    Without a Procfile they are those of graycat's own list. Raises SettingsError.
    """
    specs = list(PROCESSES)
    if procfile is not None:
        try:
            text = documents.read_text_file(procfile)
        except ValueError as error:
            raise SettingsError(f"{procfile}: {error}") from None
        specs = parse_procfile(text)
    processes = {spec.name: spec.command for spec in specs}
    if not settings.embedded_broker:
        processes.pop("broker", None)
    for kind in WORKER_KINDS.values():
        if kind.family is not None and not kind.family.is_enabled(settings):
            processes.pop(kind.name, None)
    processes = monitoring.drop_disabled(processes, settings)
    processes = modes.select_processes(processes, settings)
    on_gpus: dict[str, str] = {}
    for name, command in processes.items():
        on_gpus |= split_by_gpu(name, command, settings)
    return on_gpus


def split_by_gpu(name: str, command: str, settings: Settings) -> dict[str, str]:
    """Return a process as it runs here: one for each GPU of its engine's family, or unchanged."""
    family = FAMILIES_BY_COMMAND.get(command)
    if family is None:
        return {name: command}
    processes = {}
    for placement in gpus.list_placements(settings, family):
        if placement.gpu is not None:
            processes[f"{name}{placement.suffix}"] = f"{command} --gpu {placement.gpu}"
    return processes or {name: command}


def child_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of every process: our own, with this Python's commands first and unbuffered output."""
    env = environment()
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])
    env["PYTHONUNBUFFERED"] = "1"
    env[variable("home")] = str(settings.home.resolve())
    return env


def check_ports(settings: Settings, processes: dict[str, str]) -> None:
    """Check that the ports of all processes are free. Raises SettingsError naming the variable of one that is not."""
    for name, port, host in list_ports(settings, processes):
        check_port(name, port, host)


def list_ports(settings: Settings, processes: dict[str, str]) -> Iterator[tuple[str, int, str]]:
    """Yield the ports on which the processes will listen, each with its setting, number and address."""
    if "web" in processes:
        yield "port", settings.port, settings.host
        if settings.proxy_protocol_port:
            yield "proxy_protocol_port", settings.proxy_protocol_port, settings.host
    yield from monitoring.list_ports(settings, processes)
    for family in FAMILIES:
        commands = (f"graycat worker {family.name}", f"graycat engine {family.name}")
        has_process = any(command.startswith(commands) for command in processes.values())
        if has_process and family.owns_engine(settings):
            for placement in gpus.list_placements(settings, family):
                yield family.port_setting, placement.port, settings.engine_host


def check_port(name: str, port: int, host: str) -> None:
    """Check that a port is free. ``name``: its setting. Raises SettingsError."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise SettingsError(f"port {port} is taken: choose another with {variable(name)}=...") from None
            host_variable = "HOST"
            if name in PORTS_WITH_HOST:
                host_variable = variable(name.replace("port", "host"))
            reason = error.strerror or error
            raise SettingsError(f"{host_variable}={host} is not an address of this machine ({reason})") from None


def announce(settings: Settings, token: Credential, console: StartupConsole) -> None:
    """Wait until an engine can answer, and have it printed how to call it; meanwhile tell what is not up yet."""
    address = configured_url(settings)
    while reason := why_not_ready(address):
        console.reason = reason
        time.sleep(POLL_INTERVAL_S)
    console.greeting = greeting(settings, address, token)
    # To a supervisor of our own.
    readiness.tell_ready(address)


def greeting(settings: Settings, address: str, token: Credential) -> str:
    """Return what is printed when graycat is ready: its credentials, lines to paste, and its address at the end."""
    lines = ["", f"API token: {token.describe()}"]
    lines += filter(None, [monitoring.greeting(settings)])
    if settings.public_url:
        lines.append(f"Callers use {settings.public_url} (GRAYCAT_PUBLIC_URL)")
    lines += ["", "Try it in another terminal:"]
    lines += [f"  {line}" for line in (*paste_lines(settings, token), *suggest(settings, address))]
    lines += ["", f"graycat is ready at {address}", "Ctrl-C stops everything.", ""]
    return "\n".join(lines)


def paste_lines(settings: Settings, token: Credential) -> Iterator[str]:
    """Yield the shell lines after which another terminal has graycat's commands, its settings and an API token."""
    yield f"cd {shlex.quote(os.getcwd())}"
    if sys.prefix != sys.base_prefix:
        activate = Path(sys.prefix) / "bin" / "activate"
        if activate.is_relative_to(Path.cwd()):
            activate = activate.relative_to(Path.cwd())
        yield f". {shlex.quote(str(activate))}"
    if settings.home != Settings.home:
        yield f"export {variable('home')}={shlex.quote(str(settings.home.resolve()))}"
    yield f"export TOKEN={token.word()}"


def suggest(settings: Settings, address: str) -> list[str]:
    """Return the lines of a first request."""
    if not settings.run_llm and not settings.run_sd:
        return [f"curl {address}/ready  # No engine runs here. It says which boxes work for it."]
    path, body = "/generate-image", IMAGE_BODY
    if settings.run_llm:
        path, body = "/v1/chat/completions", CHAT_BODY
    return [f'curl {address}{path} -H "Authorization: Bearer $TOKEN" \\', f"  -d '{body}'"]


def why_not_ready(address: str) -> str:
    """Return why the web server is not ready; '' if it is."""
    try:
        reply = requests.get(f"{address}/ready", timeout=2)
    except requests.RequestException:
        return "the web server is not up yet"
    if reply.ok:
        return ""
    try:
        return str(reply.json()["reason"])
    except (ValueError, KeyError, TypeError):
        return f"another program answers at {address}"
