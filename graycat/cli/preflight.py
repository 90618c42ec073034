"""``graycat up --check``: what could keep graycat from starting here, without starting or writing anything."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import graycat
from graycat.auth import tokens
from graycat.cli import exporter, monitoring, preflight_broker, up
from graycat.cli.running import describe_other, is_locked
from graycat.engines import factory, gpus
from graycat.engines.comfy.workflows import SIDE_SUFFIX
from graycat.engines.models import checkpoints, huggingface, transfer
from graycat.engines.models.checkpoints import RequiredCheckpoint
from graycat.engines.models.errors import DownloadFailed
from graycat.engines.models.packaged import find_smollm2
from graycat.engines.models.transfer import TransferInterrupted
from graycat.engines.process.command import is_open
from graycat.errors import SettingsError
from graycat.families import FAMILIES, LLM, SD, EngineFamily
from graycat.redaction.terminal import one_line
from graycat.schedules import file
from graycat.settings import DOTENV, Settings, collect_problems, environment, extras
from graycat.settings.dotenv import read_dotenv
from graycat.settings.spelling import PREFIX, describe_unknown

#: Seconds that the import of the embedded engine may take, on a busy machine.
IMPORT_TIMEOUT_S = 60.0
#: What the broker's data, logs and images need beside the models, in bytes.
RESERVE_BYTES = 1_000_000_000
#: What the packaged model takes on the disk once it is assembled, in bytes.
PACKAGED_MODEL_BYTES = 260_000_000

OPEN_ENGINE = "it listens at every address and asks for no key: have its command use {host} or {api_key}"


class Verdict(StrEnum):
    """What one line of the check says."""

    OK = "ok"
    #: Graycat starts all the same.
    WARNING = "warning"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check: what was looked at, and what was found."""

    verdict: Verdict
    subject: str
    text: str


Check = Callable[[Settings, dict[str, str]], Iterator[Finding]]


def ok(subject: str, text: str) -> Finding:
    """Return a finding that needs nobody's attention."""
    return Finding(Verdict.OK, subject, text)


def warning(subject: str, text: str) -> Finding:
    """Return a finding that graycat starts with."""
    return Finding(Verdict.WARNING, subject, text)


def failed(subject: str, text: str) -> Finding:
    """Return a finding that keeps graycat from starting, or from doing what the settings say."""
    return Finding(Verdict.FAILED, subject, text)


def examine(procfile: Path | None = None) -> list[Finding]:
    """Return what could keep graycat from starting on this machine. All problems are found, not the first alone."""
    findings = list(check_names())
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        findings += [failed("settings", problem) for problem in error.problems]
        return [*findings, warning("the rest", "not looked at before the settings are right")]
    try:
        processes = up.list_processes(settings, procfile)
    except SettingsError as error:
        findings.append(failed("settings", str(error)))
        processes = {}
    checks: tuple[Check, ...] = (
        check_settings,
        check_home,
        check_ports,
        check_broker,
        check_engines,
        check_workflows,
        check_libraries,
        check_gpus,
        check_models,
        check_clock,
    )
    for check in checks:
        # Two of them may come upon the same mistake, in GPUs for example.
        said = {finding.text for finding in findings}
        findings += [finding for finding in check(settings, processes) if finding.text not in said]
    return findings


def report(findings: list[Finding], *, as_json: bool) -> str:
    """Return the findings, a line each, or as a JSON list."""
    if as_json:
        return json.dumps([asdict(finding) for finding in findings])
    return "\n".join(f"{f.verdict.value:<8} {f.subject:<9} {one_line(f.text)}" for f in findings)


def check_names() -> Iterator[Finding]:
    """Look for misspelt settings in the environment; what reads the settings looks into the ``.env`` file."""
    try:
        in_file = read_dotenv(DOTENV)
        env = {name: value for name, value in environment().items() if name not in in_file}
    except SettingsError:
        return
    for text in describe_unknown(env):
        # Other names may be those of other programs.
        yield (failed if text.startswith(PREFIX) else warning)("settings", text)


def check_settings(settings: Settings, processes: dict[str, str]) -> Iterator[Finding]:
    """Look at what is read from settings and files besides."""
    readers: list[Callable[[Settings], object]] = [up.check_stores]
    if settings.remote is None:
        readers += [tokens.parse_api_tokens, file.load]
    if monitoring.EXPORTER in processes.values():
        readers.append(exporter.require_python)
    problems: list[str] = []
    for read in readers:
        with collect_problems(problems):
            read(settings)
    yield from (failed("settings", problem) for problem in problems)
    if processes and not problems:
        yield ok("settings", f"runs {', '.join(processes)}")


def check_home(settings: Settings, _: dict[str, str]) -> Iterator[Finding]:
    """Look at the folder of the state: whose it is, who else may read it, and who uses it now."""
    home = settings.home.resolve()
    parent = existing_folder(home)
    if not os.access(parent, os.W_OK | os.X_OK):
        yield failed("home", f"{parent} cannot be written to: set GRAYCAT_HOME")
        return
    if parent != home:
        yield ok("home", f"{home} will be made")
        return
    status = home.stat()
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.getuid():
        yield warning("home", f"{home} belongs to another user (uid {status.st_uid})")
    elif mode & 0o077:
        yield warning("home", f"{home} is open to other users (mode {mode:o}); graycat closes what it keeps in there")
    if is_locked(home):
        yield failed("home", describe_other(home))
    else:
        yield ok("home", f"{home}, mode {mode:o}")


def existing_folder(path: Path) -> Path:
    """Return a path, or the nearest folder above it that exists."""
    while not path.exists():
        path = path.parent
    return path


def check_ports(settings: Settings, processes: dict[str, str]) -> Iterator[Finding]:
    """Look whether the ports of all processes are free."""
    free = []
    try:
        ports = list(up.list_ports(settings, processes))
    except SettingsError as error:
        yield failed("ports", str(error))
        return
    for name, port, host in ports:
        try:
            up.check_port(name, port, host)
            free.append(str(port))
        except SettingsError as error:
            yield failed("ports", str(error))
    if free:
        yield ok("ports", f"free: {', '.join(free)}")


def check_broker(settings: Settings, processes: dict[str, str]) -> Iterator[Finding]:
    """Look at the broker: its release, and whether it keeps what it is given."""
    try:
        texts, warnings = preflight_broker.describe(settings, processes)
    except SettingsError as error:
        yield failed("broker", str(error))
        return
    yield from (ok("broker", text) for text in texts)
    yield from (warning("broker", text) for text in warnings)


def check_engines(settings: Settings, _: dict[str, str]) -> Iterator[Finding]:
    """Look at the settings of each engine that runs here, and whether its program is installed."""
    for family in FAMILIES:
        if not family.is_enabled(settings):
            continue
        try:
            engine = factory.describe_engine(settings, family, own=family.owns_engine(settings))
            command = engine.command()
        except SettingsError as error:
            yield failed("engine", f"{family.name}: {error}")
            continue
        if command is None:
            yield ok("engine", f"{family.name}: {engine.name}, one that runs already")
        elif shutil.which(command[0]) is None:
            yield failed("engine", f"{family.name}: there is no program {command[0]}")
        elif listens_openly(settings, family, command):
            yield warning("engine", f"{family.name}: {OPEN_ENGINE}")
        elif family.is_placeholder(settings):
            yield warning("engine", f"{family.name}: a placeholder, which draws a simple picture that says so")
        else:
            yield ok("engine", f"{family.name}: {engine.name}")


def check_workflows(settings: Settings, _: dict[str, str]) -> Iterator[Finding]:
    """Look whether the folder of ComfyUI's workflows is there: a worker goes on without."""
    if not (settings.comfyui_workflows and SD.is_enabled(settings)):
        return
    folder = Path(settings.comfyui_workflows)
    if not (settings.comfyui_url or settings.comfyui_startup_command):
        yield warning("engine", "GRAYCAT_COMFYUI_WORKFLOWS is set, and only ComfyUI runs workflows: set COMFYUI_URL")
    elif not folder.is_dir():
        yield warning("engine", f"GRAYCAT_COMFYUI_WORKFLOWS: there is no folder {folder}")
    else:
        count = sum(1 for file in folder.glob("*.json") if not file.name.endswith(SIDE_SUFFIX))
        yield ok("engine", f"sd: {count} workflows in {folder}; the worker's log says which cannot be used")


def listens_openly(settings: Settings, family: EngineFamily, command: Sequence[str]) -> bool:
    """Return whether an engine's command opens it to everybody."""
    if family is LLM and settings.engine_api_key:
        # It finds the key in its environment (``factory.KEY_VARIABLE``).
        return False
    return is_open(command, settings.engine_api_key)


def check_libraries(settings: Settings, _: dict[str, str]) -> Iterator[Finding]:
    """Load the embedded text engine as its process will, if it is used: libraries may lack, or the processor may."""
    uses_embedded = LLM.is_enabled(settings) and not (settings.llama_server_url or settings.startup_command)
    if not uses_embedded or not extras.are_installed(extras.ENGINE):
        return
    command = [sys.executable, "-c", f"import {extras.ENGINE}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        yield failed("libraries", f"the text engine cannot be loaded within {IMPORT_TIMEOUT_S:.0f} s")
        return
    if done.returncode == 0:
        yield ok("libraries", "the text engine can be loaded")
    elif done.returncode < 0:
        reason = f"signal {-done.returncode}: its program may be for another processor"
        yield failed("libraries", f"the text engine ends by {reason}")
    else:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        yield failed("libraries", f"the text engine cannot be loaded: {lines[-1]}")


def check_gpus(settings: Settings, _: dict[str, str]) -> Iterator[Finding]:
    """List the GPUs, and say which engine is on which."""
    found = gpus.list_gpus()
    if not found:
        yield ok("GPU", "none that NVML knows")
    for gpu in found:
        state = gpus.read_gpu_state(gpu)
        memory = "memory unknown"
        if state is not None:
            memory = f"{state.memory_used / 1e9:.1f} of {state.memory_total / 1e9:.1f} GB in use"
        yield ok("GPU", f"{gpu}: {memory}")
    for family in FAMILIES:
        if not (family.is_enabled(settings) and family.owns_engine(settings)):
            continue
        try:
            places = [place.gpu for place in gpus.list_placements(settings, family)]
        except SettingsError as error:
            yield failed("GPU", str(error))
            continue
        if places == [None]:
            yield ok("GPU", f"{family.name} runs on the CPU")
        else:
            yield ok("GPU", f"{family.name} runs on {', '.join(map(str, places))}")


def check_models(settings: Settings, _: dict[str, str]) -> Iterator[Finding]:
    """Say which checkpoints are here and how large the others are, and whether the disk has room for them."""
    needed = RESERVE_BYTES
    for family in FAMILIES:
        if not (family.is_enabled(settings) and family.owns_engine(settings)):
            continue
        try:
            required = checkpoints.list_required(settings, family.name)
        except SettingsError as error:
            # check_engines says the same of the engine's own checkpoint.
            yield failed("models", str(error))
            continue
        for checkpoint in required:
            size, finding = describe_checkpoint(checkpoint, settings)
            needed += size
            yield finding
        if family is LLM and not (required or settings.startup_command):
            chat_model = find_smollm2()
            if chat_model is not None:
                yield ok("models", f"the packaged one, {chat_model.stem}")
            else:
                needed += PACKAGED_MODEL_BYTES
                yield ok("models", "the packaged one, Gemma 3 270M, about 250 MB, assembled at the first start")
    disk = existing_folder(settings.home.resolve())
    free = shutil.disk_usage(disk).free
    text = f"{free / 1e9:.1f} GB are free in {disk}, {needed / 1e9:.1f} GB are needed"
    if free < needed:
        yield failed("disk", text)
    else:
        yield ok("disk", text)


def describe_checkpoint(checkpoint: RequiredCheckpoint, settings: Settings) -> tuple[int, Finding]:
    """Return the bytes that a checkpoint still needs on the disk, and what there is to say of it."""
    path = checkpoint.path
    if path is not None:
        return 0, ok("models", f"{checkpoint.variable}: {path} is here, {path.stat().st_size / 1e9:.2f} GB")
    source = checkpoint.source
    if source is None:
        return 0, failed("models", f"{checkpoint.variable}: {checkpoint.file} is no file")
    name = f"{checkpoint.variable}: {source.display_url}"
    try:
        remote = huggingface.resolve(source, settings)
        size = remote.size
        if size is None:
            with transfer.open_transfer(remote.url, remote.headers) as opened:
                size = opened.size
    except (DownloadFailed, TransferInterrupted) as error:
        return 0, failed("models", f"{name} cannot be downloaded: {error}")
    if size is None:
        return 0, warning("models", f"{name} is to be downloaded; its server does not say how large it is")
    return size, ok("models", f"{name} is to be downloaded, {size / 1e9:.2f} GB")


def check_clock(settings: Settings, _: dict[str, str]) -> Iterator[Finding]:
    """Compare this machine's clock with what cannot be later, and with the broker's."""
    if time.time() < Path(graycat.__file__).stat().st_mtime:
        yield failed("clock", "this machine's clock is behind the files of graycat: tokens and certificates may end")
        return
    difference_s = preflight_broker.clock_difference_s(settings)
    if difference_s is not None and abs(difference_s) > preflight_broker.MAX_CLOCK_DIFFERENCE_S:
        yield warning("clock", f"{difference_s:+.1f} s from the broker's: let both follow the same time servers")
    else:
        yield ok("clock", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
